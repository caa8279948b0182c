"""Each route: what it answers, and what it refuses by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cloche.api.endpoint import Endpoint, Raw
from cloche.api.incoming import MAX_JSON_BYTES
from cloche.api.table import ENDPOINTS
from cloche.guest_api.frames import EXITED, STARTED, STDOUT, FrameDecoder
from tests.unit.api.harness import ID, Served, error_of, serve

BOX = "/v1/sandboxes/box"
Scene = Callable[[Served], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scene], None]:
    async def scene_in_node(scene: Scene) -> None:
        async with serve(tmp_path) as served:
            async with asyncio.timeout(30):
                await scene(served)

    return lambda scene: uvloop.run(scene_in_node(scene))


def filled(endpoint: Endpoint) -> str:
    return endpoint.path.replace("{ref}", "box").replace("{pid}", "p_01ARZ3NDEKTSV4RRFFQ69G5FAV")


VALID: dict[str, Any] = {
    "create_sandbox": {}, "extend_sandbox": {"ttl_seconds": 60}, "start_process": {"argv": ["true"]},
    "signal_process": {"signal": 15}, "resize_process": {"rows": 1, "cols": 1}, "make_directory": {"path": "d"},
    "move_file": {"from": "a", "to": "b"}, "change_mode": {"path": "a", "mode": 420},
    "change_owner": {"path": "a", "uid": 1, "gid": 1}, "make_symlink": {"path": "a", "target": "b"},
}  # fmt: skip
WITH_BODY = [each for each in ENDPOINTS if each.body is not None and not isinstance(each.body, Raw)]
name_of = lambda endpoint: endpoint.operation_id  # noqa: E731


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=name_of)
def test_an_unknown_field_is_named(play: Any, endpoint: Endpoint) -> None:
    async def scene(node: Served) -> None:
        body = {**VALID.get(endpoint.operation_id, {}), "surprise": 1}
        status, code, details = error_of(await node.ask(endpoint.method, filled(endpoint), body))
        assert (status, code, details["field"]) == (422, "invalid", "surprise")

    play(scene)


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=name_of)
@pytest.mark.parametrize("body", [b"[]", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"a":NaN}', b"null"], ids=range(7))
def test_what_is_no_object_is_refused(play: Any, endpoint: Endpoint, body: bytes) -> None:
    async def scene(node: Served) -> None:
        status, code, details = error_of(await node.ask(endpoint.method, filled(endpoint), raw=body))
        assert (status, code) == (422, "invalid")
        assert details["field"]

    play(scene)


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=name_of)
def test_a_wrong_type_is_named(play: Any, endpoint: Endpoint) -> None:
    async def scene(node: Served) -> None:
        valid = VALID.get(endpoint.operation_id) or {"start_sandbox": {"session": {}}, "stop_sandbox": {
            "grace_seconds": 1}, "shut_down": {"stop_sandboxes": True}}.get(endpoint.operation_id, {})  # fmt: skip
        for field in valid:
            answer = await node.ask(endpoint.method, filled(endpoint), {**valid, field: [{}]})
            status, code, details = error_of(answer)
            assert (status, code) == (422, "invalid")
            assert details["field"].split("[")[0] == field
        for field in valid:
            short = {key: value for key, value in valid.items() if key != field}
            status, answer = await node.ask(endpoint.method, filled(endpoint), short)
            if status == 422:
                assert answer["error"]["details"]["field"] == field

    play(scene)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name_of)
def test_an_unknown_query_is_named(play: Any, endpoint: Endpoint) -> None:
    async def scene(node: Served) -> None:
        target = (
            f"{filled(endpoint)}?path=a&surprise=1" if "files" in endpoint.path else f"{filled(endpoint)}?surprise=1"
        )
        if "files" in endpoint.path and "path" not in endpoint.query.__struct_fields__:
            target = f"{filled(endpoint)}?surprise=1"
        status, code, details = error_of(await node.ask(endpoint.method, target))
        assert (status, code, details["field"]) == (422, "invalid", "surprise")

    play(scene)


@pytest.mark.parametrize(
    ("method", "target", "field"),
    [
        ("GET", "/v1/sandboxes?limit=many", "limit"),
        ("GET", "/v1/sandboxes?limit=0", "limit"),
        ("GET", "/v1/sandboxes?limit=1&limit=2", "limit"),
        ("GET", "/v1/sandboxes?state=asleep", "state"),
        ("GET", "/v1/node/logs?lines=-1", "lines"),
        ("GET", f"{BOX}/processes/p_1/wait?timeout_seconds=x", "timeout_seconds"),
        ("GET", f"{BOX}/processes/p_1/wait?timeout_seconds=nan", "timeout_seconds"),
        ("GET", f"{BOX}/processes/p_1/output?follow=perhaps", "follow"),
        ("POST", f"{BOX}/processes/p_1/stdin?offset=-1", "offset"),
        ("GET", f"{BOX}/files/content", "path"),
        ("GET", f"{BOX}/files/content?path=", "path"),
        ("GET", f"{BOX}/files/content?path=a%00b", "query"),
        ("PUT", f"{BOX}/files/content?path=a&mode=999", "mode"),
        ("DELETE", f"{BOX}?force=maybe", "force"),
    ],
)
def test_a_wrong_query_is_named(play: Any, method: str, target: str, field: str) -> None:
    async def scene(node: Served) -> None:
        status, code, details = error_of(await node.ask(method, target))
        assert (status, code, details["field"]) == (422, "invalid", field)

    play(scene)


def test_nested_fields_are_named_with_their_path(play: Any) -> None:
    async def scene(node: Served) -> None:
        for body, field in [
            ({"limits": {"memory_mib": "512"}}, "limits.memory_mib"),
            ({"limits": {"ram": 1}}, "limits.ram"),
            ({"mounts": [{"source": "/a"}]}, "mounts[0].target"),
            ({"session": {"env": {"A": 1}}}, "session.env[...]"),
            ({"env": {"A=B": "1"}}, "env"),
            ({"session": {"env": {"": "1"}}}, "env"),
            ({"name": "Not A Name"}, "name"),
        ]:
            status, code, details = error_of(await node.ask("POST", "/v1/sandboxes", body))
            assert (status, code, details["field"]) == (422, "invalid", field)

    play(scene)


def test_unknown_routes_and_methods_answer_in_json(play: Any) -> None:
    async def scene(node: Served) -> None:
        assert error_of(await node.ask("GET", "/v2/health"))[:2] == (404, "not_found")
        assert error_of(await node.ask("GET", "/v1/sandboxes/box/"))[:2] == (404, "not_found")
        assert error_of(await node.ask("PATCH", BOX))[:2] == (405, "invalid")
        assert node.headers["allow"] == "DELETE, GET"
        assert (await node.ask("HEAD", "/v1/health"))[0] == 405

    play(scene)


def test_every_answer_carries_versions_and_an_id(play: Any) -> None:
    async def scene(node: Served) -> None:
        for target in ("/v1/health", "/nowhere"):
            await node.ask("GET", target)
            assert node.headers["cloche-api-version"] == "1"
            assert node.headers["cloche-version"]
            assert len(node.headers["cloche-request-id"]) == 32

    play(scene)


def test_a_body_beyond_its_bound_is_refused(play: Any) -> None:
    async def scene(node: Served) -> None:
        body = b'{"env":{"A":"' + b"x" * MAX_JSON_BYTES + b'"}}'
        status, code, details = error_of(await node.ask("POST", "/v1/sandboxes", raw=body))
        assert (status, code, details["field"]) == (422, "invalid", "body")

    play(scene)


def test_a_sandbox_is_made_with_its_session_apart(play: Any) -> None:
    async def scene(node: Served) -> None:
        status, made = await node.ask("POST", "/v1/sandboxes", {"name": "box", "session": {"env": {"TOKEN": "s"}}})
        assert (status, made["id"]) == (201, ID)
        spec, env = node.services.created[0]
        assert (spec.name, env) == ("box", {"TOKEN": "s"})
        assert type(spec).__name__ == "SandboxSpec"

    play(scene)


def test_a_query_for_sandboxes_reaches_the_service(play: Any) -> None:
    async def scene(node: Served) -> None:
        status, page = await node.ask("GET", "/v1/sandboxes?label=a=b%3Dc&label=d&state=running,paused&limit=7")
        assert (status, len(page["sandboxes"]), page["next_cursor"]) == (200, 1, None)
        query = node.services.query
        assert query.labels == {"a": "b=c", "d": None}
        assert query.states == {"running", "paused"}
        assert query.limit == 7

    play(scene)


def test_the_rest_of_a_sandboxs_life(play: Any) -> None:
    async def scene(node: Served) -> None:
        for operation, body in [("pause", None), ("resume", {}), ("stop", {"grace_seconds": 0}), ("stop", None),
                                ("extend", {"ttl_seconds": None}), ("extend", {"ttl_seconds": 5})]:  # fmt: skip
            assert (await node.ask("POST", f"{BOX}/{operation}", body))[0] == 200
        assert node.services.stopped_with == 5.0
        assert error_of(await node.ask("POST", f"{BOX}/start"))[:2] == (409, "wrong_state")
        assert error_of(await node.ask("DELETE", BOX))[:2] == (409, "wrong_state")
        assert (await node.ask("DELETE", f"{BOX}?force=1"))[0] == 204
        assert error_of(await node.ask("GET", "/v1/sandboxes/other"))[:2] == (404, "not_found")
        assert (await node.ask("GET", f"{BOX}/stats"))[1]["time"] == 1.0
        assert (await node.ask("GET", f"{BOX}/events"))[1]["events"][0]["kind"] == "sandbox.created"

    play(scene)


def test_processes_pass_through(play: Any) -> None:
    async def scene(node: Served) -> None:
        status, info = await node.ask("POST", f"{BOX}/processes", {"argv": ["cat"], "stdin": True})
        assert status == 201
        one = f"{BOX}/processes/{info['id']}"
        assert (await node.ask("POST", f"{one}/stdin?offset=0", raw=b"hello"))[1] == {"offset": 5}
        assert (await node.ask("POST", f"{one}/stdin/close"))[0] == 204
        assert (await node.ask("GET", f"{one}/wait?timeout_seconds=5"))[1]["exit_code"] == 0
        frames = list(FrameDecoder().feed((await node.ask("GET", f"{one}/output?stdout_offset=1"))[1]))
        assert [frame.kind for frame in frames] == [STDOUT, EXITED]
        assert frames[0].payload == b"ello"
        assert error_of(await node.ask("POST", f"{one}/signal", {"signal": "TERM"}))[:2] == (409, "wrong_state")
        assert (await node.ask("GET", f"{BOX}/processes"))[1]["processes"][0]["id"] == info["id"]
        assert (await node.ask("DELETE", one))[0] == 204
        assert error_of(await node.ask("GET", one))[:2] == (404, "not_found")
        assert error_of(await node.ask("GET", f"{BOX}/processes/a%2e%2e%3fb"))[:2] == (404, "not_found")

    play(scene)


def test_a_followed_start_is_a_stream_of_frames(play: Any) -> None:
    async def scene(node: Served) -> None:
        status, body = await node.ask("POST", f"{BOX}/processes?follow=1", {"argv": ["echo", "hi"]})
        assert (status, node.headers["content-type"]) == (200, "application/vnd.cloche.frames")
        frames = list(FrameDecoder().feed(body))
        assert [frame.kind for frame in frames] == [STARTED, STDOUT, EXITED]

    play(scene)


def test_bytes_outside_utf8_survive_as_surrogates(play: Any) -> None:
    async def scene(node: Served) -> None:
        status, _ = await node.ask("POST", f"{BOX}/processes", raw=b'{"argv": ["echo", "\\udcff"]}')
        assert status == 201
        assert (await node.ask("PUT", f"{BOX}/files/content?path=%FF", raw=b"x"))[0] == 200
        assert (await node.ask("GET", f"{BOX}/files/content?path=%FF"))[1] == b"x"

    play(scene)


def test_files_pass_through(play: Any) -> None:
    async def scene(node: Served) -> None:
        files = f"{BOX}/files"
        status, info = await node.ask("PUT", f"{files}/content?path=a.txt&mode=0600", raw=b"hello")
        assert (status, info["size"], info["mode"]) == (200, 5, 0o600)
        assert (await node.ask("GET", f"{files}/content?path=a.txt&offset=1&length=2"))[1] == b"el"
        assert node.headers["cloche-file-size"] == "5"
        assert (await node.ask("GET", f"{files}/stat?path=a.txt"))[1]["name"] == "a.txt"
        assert (await node.ask("POST", f"{files}/mkdir", {"path": "d/e", "parents": True}))[0] == 200
        assert (await node.ask("POST", f"{files}/move", {"from": "a.txt", "to": "d/b.txt"}))[0] == 200
        assert b"b.txt" in (await node.ask("GET", f"{files}/list?path=d"))[1]
        tar = (await node.ask("GET", f"{files}/tar?path=d"))[1]
        assert (await node.ask("PUT", f"{files}/tar?path=copy", raw=tar))[1]["files"] >= 2
        assert error_of(await node.ask("GET", f"{files}/stat?path=a.txt"))[:2] == (404, "not_found")
        assert error_of(await node.ask("DELETE", f"{files}?path=d"))[:2] == (409, "wrong_state")
        assert (await node.ask("DELETE", f"{files}?path=d&recursive=1"))[0] == 204

    play(scene)


def test_a_streamed_upload_arrives_whole(play: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(64):
            yield bytes([number]) * 65536

    async def scene(node: Served) -> None:
        status, info = await node.ask("PUT", f"{BOX}/files/content?path=big", raw=pieces())
        assert (status, info["size"]) == (200, 64 * 65536)
        content = (await node.ask("GET", f"{BOX}/files/content?path=big"))[1]
        assert content == b"".join([bytes([number]) * 65536 for number in range(64)])

    play(scene)


def test_the_node_itself(play: Any) -> None:
    async def scene(node: Served) -> None:
        assert (await node.ask("GET", "/v1/health"))[1] == {"status": "ok"}
        assert (await node.ask("GET", "/v1/doctor"))[1]["auto"] is None
        assert (await node.ask("GET", "/v1/node/logs?lines=5"))[1] == b'{"event":"one"}\n'
        assert (await node.ask("POST", "/v1/node/shutdown", {"stop_sandboxes": True}))[0] == 202
        assert node.node.left is True
        assert (await node.ask("GET", "/v1/openapi.json"))[1]["openapi"] == "3.1.0"

    play(scene)
