"""Routes of code contexts over a guest that has no interpreter, and streams of a guest that lies."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cloche.api.contexts import MAX_BODY_BYTES, event_inspector
from cloche.guest_api.events import encode
from cloche.model.code import MAX_CODE_BYTES, Accepted, CodeEnded, CodeOutput, Keepalive
from cloche.model.errors import GuestError
from tests.unit.api.harness import Reply, Served, error_of, serve

BOX = "/v1/sandboxes/box"
CONTEXT, EXECUTION = "c_" + "0" * 26, "x_" + "0" * 26
ACCEPTED = encode(Accepted(seq=1, execution_id=EXECUTION, context_id=CONTEXT, language="python"))
ENDED = encode(CodeEnded(seq=2, status="ok"))
Scene = Callable[[Served], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scene], None]:
    async def scene_in_node(scene: Scene) -> None:
        async with serve(tmp_path) as served:
            await scene(served)

    return lambda scene: uvloop.run(scene_in_node(scene))


def test_a_missing_interpreter_is_told_with_what_would_help(play: Any) -> None:
    async def scene(node: Served) -> None:
        assert await node.ask("GET", f"{BOX}/contexts") == (200, {"contexts": [], "languages": []})
        for path, body in (("contexts", {"language": "javascript"}), ("executions", {"code": "1+1"})):
            status, answer = await node.ask("POST", f"{BOX}/{path}", body)
            assert (status, answer["error"]["code"]) == (501, "interpreter_missing")
            assert answer["error"]["details"] == {"languages": []} and "image" in answer["error"]["remedy"]

    play(scene)


def test_what_is_not_there_and_what_is_wrong(play: Any) -> None:
    async def scene(node: Served) -> None:
        for asked in (
            f"GET contexts/{CONTEXT}",
            f"DELETE contexts/{CONTEXT}",
            "GET contexts/c_12",
            f"POST contexts/{CONTEXT}/restart",
            f"POST contexts/{CONTEXT}/interrupt",
            f"GET executions/{EXECUTION}?after=0&follow=1",
            "GET executions/a%20b",
            f"POST executions/{EXECUTION}/interrupt",
        ):
            method, _, path = asked.partition(" ")
            assert error_of(await node.ask(method, f"{BOX}/{path}"))[:2] == (404, "not_found"), path
        for body, field in (
            ({"code": 1}, "code"),
            ({"code": "", "language": "cobol"}, "language"),
            ({"code": "", "timeout_seconds": 0}, "timeout_seconds"),
            ({"code": "", "on_disconnect": "explode"}, "on_disconnect"),
            ({"code": "", "cwd": "/"}, "cwd"),
            ({"code": "x" * (MAX_CODE_BYTES + 1)}, "code"),
            ({}, "code"),
        ):
            assert error_of(await node.ask("POST", f"{BOX}/executions", body)) == (422, "invalid", {"field": field})
        assert error_of(await node.ask("POST", f"{BOX}/contexts", {"cwd": ""})) == (422, "invalid", {"field": "cwd"})
        assert error_of(await node.ask("GET", f"{BOX}/executions/{EXECUTION}?after=-1"))[1] == "invalid"

    play(scene)


def test_code_of_the_largest_size_arrives_however_it_is_written(play: Any) -> None:
    async def scene(node: Served) -> None:
        escaped = b'{"code": "' + b"\\u0001" * MAX_CODE_BYTES + b'"}'
        assert error_of(await node.ask("POST", f"{BOX}/executions", raw=escaped))[1] == "interpreter_missing"
        beyond = b'{"code": "' + b"x" * MAX_BODY_BYTES + b'"}'
        assert error_of(await node.ask("POST", f"{BOX}/executions", raw=beyond))[1] == "invalid"

    play(scene)


@pytest.mark.parametrize("cut", [1, 7, 100_000])
def test_events_pass_as_they_are(cut: int) -> None:
    stream = ACCEPTED + encode(Keepalive()) + ENDED
    inspect = event_inspector(None)
    for start in range(0, len(stream), cut):
        inspect(stream[start : start + cut])
    inspect(b"")


def test_a_stream_that_lies_ends_with_the_reason(play: Any) -> None:
    lies = ACCEPTED + encode(CodeOutput(seq=3, stream="stdout", text="one was left out"))

    @contextlib.asynccontextmanager
    async def lying(*_: Any, **__: Any) -> AsyncIterator[Reply]:
        async def body() -> AsyncIterator[bytes]:
            yield ACCEPTED
            yield lies[len(ACCEPTED) :] + ENDED

        yield Reply(200, [(b"Content-Type", b"application/x-ndjson")], body())

    async def scene(node: Served) -> None:
        node.services.contexts.execute = lying  # type: ignore[method-assign]
        _, told = await node.ask("POST", f"{BOX}/executions", {"code": ""})
        accepted, reason = told.splitlines(keepends=True)
        assert accepted == ACCEPTED
        assert json.loads(reason)["error"]["code"] == "guest_error"

    play(scene)
    with pytest.raises(GuestError):
        event_inspector(None)(lies)
