"""Both halves' code contexts against a node in miniature."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import (
    AsyncSandbox,
    CodeEnded,
    CodeError,
    CodeFailedError,
    CodeGap,
    CodeOutput,
    CodeResult,
    GuestError,
    InterpreterMissingError,
    InvalidError,
    NodeUnreachableError,
    NotFoundError,
    Result,
    Sandbox,
    SandboxDeadError,
    WrongStateError,
)
from cloche.guest_api.events import encode
from cloche.model.code import Accepted
from tests.unit.sdk.stub_execution import CONTEXT, EXECUTION, StubExecution
from tests.unit.sdk.stub_node import StubNode

INFO = {"id": CONTEXT, "language": "python", "state": "idle", "created_at": 1.0, "newer": [1]}


def out(text: str, stream: str = "stdout") -> CodeOutput:
    return CodeOutput(seq=0, stream=stream, text=text)  # type: ignore[arg-type]


def value(**data: object) -> CodeResult:
    return CodeResult(seq=0, kind="value", data={"text/plain": "2", **data})


@pytest.fixture
def node(tmp_path: Path) -> Iterator[StubNode]:
    stub = StubNode(tmp_path / "home")
    yield stub
    stub.close()


@pytest.fixture
def box(node: StubNode, tmp_path: Path) -> Sandbox:
    return Sandbox.create(home=str(tmp_path / "home"))


def test_run_code_gives_what_the_code_did(node: StubNode, box: Sandbox) -> None:
    play = StubExecution(
        node, box.id, out("hé"), out("caf\udcc3"), out("err\udcff", "stderr"), out("\udca9\n"), value()
    )
    told: list[object] = []
    done = box.run_code("code", on_stdout=told.append, on_stderr=told.append, on_result=told.append, timeout_seconds=9)
    assert (done.id, done.context_id, done.number, done.status, done.ok) == (EXECUTION, CONTEXT, 7, "ok", True)
    assert (done.stdout, done.stderr, done.text, done.wall_seconds) == ("hécafé\n", "err\ufffd", "2", 0.5)
    assert told[:4] == ["hé", "caf", "err\ufffd", "é\n"] and isinstance(told[4], Result)
    assert json.loads(play.bodies[0]) == {"code": "code", "timeout_seconds": 9, "on_disconnect": "interrupt"}
    assert not play.interrupted and not done.truncated and done.raise_for_error() is done


def test_code_that_fails_is_a_result(node: StubNode, box: Sandbox) -> None:
    failed = CodeError(seq=0, name="ValueError", message="no\x1b[2J", traceback="line 1\nline 2")
    StubExecution(node, box.id, failed, status="error")
    done = box.run_code("code")
    assert done.error is not None and (done.error.name, done.status, done.text) == ("ValueError", "error", None)
    with pytest.raises(CodeFailedError, match="ValueError: no\ufffd") as caught:
        done.raise_for_error()
    assert caught.value.execution is done
    assert "line 2" in done._repr_mimebundle_()["text/plain"] and "\x1b" not in repr(done)


@pytest.mark.parametrize("asked", ["sync", "async"])
def test_streams_that_break_cost_nothing(node: StubNode, box: Sandbox, tmp_path: Path, asked: str) -> None:
    events = [out(f"{number}\n") for number in range(100)]
    play = StubExecution(node, box.id, *events, cuts=(300, 200, 1, 5000))
    if asked == "sync":
        done = box.run_code("code")
    else:

        async def run() -> None:
            nonlocal done
            found = await AsyncSandbox.from_id(box.id, home=str(tmp_path / "home"))
            done = await found.run_code("code")

        asyncio.run(run())
    assert done.stdout == "".join(f"{number}\n" for number in range(100))
    assert len(play.bodies) == 1 and not play.interrupted and done.lost_events == 0


def test_code_of_which_nothing_was_heard_is_not_sent_again(node: StubNode, box: Sandbox) -> None:
    play = StubExecution(node, box.id, cuts=(10,))
    with pytest.raises(NodeUnreachableError):
        box.run_code("code")
    assert len(play.bodies) == 1


def test_a_gap_is_told(node: StubNode, box: Sandbox) -> None:
    play = StubExecution(node, box.id, *(out("x") for _ in range(10)), cuts=(400,))
    play.events[1:6] = [CodeGap(seq=6, lost_events=5)]
    done = box.run_code("code")
    assert (done.lost_events, done.stdout) == (5, "x" * 6)


def test_events_of_a_newer_node_are_passed_over(node: StubNode, box: Sandbox) -> None:
    play = StubExecution(node, box.id, out("a"), out("b"))
    new = b'{"type": "progress", "seq": 99, "part": 0.5}\n'

    def start(handler: object) -> None:
        lines = [json.dumps({"type": "accepted", "seq": 1, "execution_id": EXECUTION, "context_id": CONTEXT,
                             "language": "python", "newer": 1}).encode() + b"\n", new]  # fmt: skip
        handler.reply(200, b"".join(lines) + b'{"type":"ended","seq":3,"status":"ok","newer":{}}\n')  # type: ignore[attr-defined]

    node.answers["POST", play.interrupt_path.rsplit("/", 2)[0]] = start
    assert box.run_code("code").status == "ok"


def test_what_the_node_refuses_of_the_events_is_an_error_and_not_read_again(node: StubNode, box: Sandbox) -> None:
    play = StubExecution(node, box.id)
    accepted = encode(Accepted(seq=1, execution_id=EXECUTION, context_id=CONTEXT, language="python"))
    refused = json.dumps(GuestError("event 3, expected 2").to_json()).encode() + b"\n"
    path = play.interrupt_path.rsplit("/", 2)[0]
    node.answers["POST", path] = lambda handler: handler.reply(200, accepted + refused)
    with pytest.raises(GuestError, match="event 3, expected 2"):
        box.run_code("code")
    assert node.asked("GET").count(f"{path}/{EXECUTION}") == 0


@pytest.mark.parametrize(("on_disconnect", "interrupts"), [("interrupt", 1), ("keep", 0)])
def test_a_caller_who_goes_interrupts_unless_it_is_to_be_kept(
    node: StubNode, box: Sandbox, on_disconnect: str, interrupts: int
) -> None:
    play = StubExecution(node, box.id, *(out("x") for _ in range(1000)))

    def fail(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        box.run_code("code", on_stdout=fail, on_disconnect=on_disconnect)  # type: ignore[arg-type]
    assert play.interrupted == interrupts
    for event in box.stream_code("code", on_disconnect=on_disconnect):  # type: ignore[arg-type]
        assert isinstance(event, Accepted)
        break
    assert play.interrupted == 2 * interrupts


def test_a_task_that_is_cancelled_interrupts(node: StubNode, box: Sandbox, tmp_path: Path) -> None:
    play = StubExecution(node, box.id, out("x"))

    async def scene() -> None:
        found, seen = await AsyncSandbox.from_id(box.id, home=str(tmp_path / "home")), asyncio.Event()

        async def show(text: str) -> None:
            seen.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(found.run_code("code", on_stdout=show))
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stream = found.stream_code("code")
        assert isinstance(await anext(stream), Accepted)
        await stream.aclose()

    asyncio.run(scene())
    assert play.interrupted == 2


def test_an_execution_is_read_on_where_it_was_left(node: StubNode, box: Sandbox) -> None:
    play = StubExecution(node, box.id, out("a"), out("b"), value())
    stream = box.execution(EXECUTION, after=3)
    events = list(stream)
    assert [event.seq for event in events] == [4, 5, 6] and isinstance(events[-1], CodeEnded)  # type: ignore[union-attr]
    assert stream.seq == 6 and not play.interrupted
    again = box.execution(EXECUTION).result()
    assert (again.stdout, again.text, again.number) == ("ab", "2", 7)
    assert list(box.execution(EXECUTION, after=6)) == []
    with pytest.raises(WrongStateError):
        box.execution(EXECUTION, after=6).result()
    with pytest.raises(NotFoundError):
        list(box.execution("x_unknown"))


def test_the_end_of_the_sandbox_is_told(node: StubNode, box: Sandbox) -> None:
    play = StubExecution(node, box.id, out("a"), cuts=(300,))
    stopped = {"error": {"code": "wrong_state", "message": "no", "details": {"state": "stopped"}}}
    node.answers["GET", play.interrupt_path.removesuffix("/interrupt")] = (409, stopped)
    with pytest.raises(SandboxDeadError) as caught:
        box.run_code("code")
    assert caught.value.details["reason"] == "stopped"


def test_a_missing_interpreter_is_an_error_with_a_remedy(node: StubNode, box: Sandbox) -> None:
    said = {"code": "interpreter_missing", "message": "no", "remedy": "use bash", "details": {"languages": ["bash"]}}
    node.answers["POST", f"/v1/sandboxes/{box.id}/executions"] = (501, {"error": said})
    with pytest.raises(InterpreterMissingError) as caught:
        box.run_code("1", language="javascript")
    assert (caught.value.remedy, caught.value.details) == ("use bash", {"languages": ["bash"]})


def test_what_is_wrong_is_refused_before_it_is_sent(node: StubNode, box: Sandbox) -> None:
    asked = len(node.requests)
    for options in ({"language": "cobol"}, {"timeout_seconds": 0}, {"timeout_seconds": "1"}, {"on_disconnect": "x"}):
        with pytest.raises(InvalidError) as caught:
            box.run_code("1", **options)  # type: ignore[arg-type]
        assert caught.value.details["field"] in options
    for code in ("\ud800", "x" * (9 << 20), 1):
        with pytest.raises(InvalidError):
            box.run_code(code)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="wrong"):
        box.run_code("1", wrong=1)  # type: ignore[call-arg]
    with pytest.raises(InvalidError):
        box.contexts.create(cwd="")
    assert len(node.requests) == asked


def test_contexts_are_made_found_and_removed(node: StubNode, box: Sandbox) -> None:
    path = f"/v1/sandboxes/{box.id}/contexts"
    node.answers["POST", path] = (201, INFO)
    node.answers["GET", path] = (200, {"contexts": [INFO], "languages": ["python", "ruby"]})
    node.answers["POST", f"{path}/{CONTEXT}/restart"] = (200, {**INFO, "executions": 3})
    node.answers["POST", f"{path}/{CONTEXT}/interrupt"] = (204, b"")
    node.answers["DELETE", f"{path}/{CONTEXT}"] = (204, b"")
    play = StubExecution(node, box.id, value())
    with box.contexts.create(language="python", env={"A": "b"}) as context:
        assert context.run("1+1").text == "2"
        assert json.loads(play.bodies[0])["context_id"] == CONTEXT
        assert box.run_code("1+1", context=context).text == box.run_code("1+1", context=CONTEXT).text == "2"
        assert [known.id for known in box.contexts.list()] == [CONTEXT]
        assert box.contexts.languages() == ["python", "ruby"]
        context.interrupt()
        assert context.restart().executions == 3
    assert node.asked("DELETE") == [f"{path}/{CONTEXT}"]
