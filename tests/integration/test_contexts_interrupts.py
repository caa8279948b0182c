"""Interrupts reach the code they were meant for, whatever it is doing, and never what runs next."""
# ruff: noqa: E501  (code of other languages, as it stands)

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloche.model.code import Accepted, CodeOutput
from tests.integration.guest_harness import BINARY, Guest, guest, has

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="the guest is not built")
needs_node = pytest.mark.skipif(not has("node"), reason="no node in /usr/bin")
ROUNDS = 15


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with guest(tmp_path_factory.mktemp("guest")) as served:
        yield served


def interrupted(box: Guest, code: str, **spec: object) -> str:
    """The status of code that was interrupted when it had printed something."""
    stream = box.stream(code, **spec)
    stream.until(CodeOutput)
    execution = stream.told.of(Accepted)[0].execution_id
    assert box.ask("POST", f"/v1/executions/{execution}/interrupt")[0] in (204, 409)
    return str(stream.finish().end.status)


JAVASCRIPT = {
    "a loop": "console.log('on'); while (true) {}",
    "an await": "console.log('on'); await new Promise(() => {})",
    "a loop after an await": "await null; console.log('on'); while (true) {}",
    "a loop after a timer": "await new Promise(go => setTimeout(go, 1)); console.log('on'); while (true) {}",
    "a loop in a timer": "setTimeout(() => { console.log('on'); while (true) {} }, 1); await new Promise(() => {})",
    "a loop in a tick": "process.nextTick(() => { console.log('on'); while (true) {} }); await new Promise(() => {})",
    "a loop that prints": "for (;;) console.log('on')",
    "a loop that catches": "console.log('on'); for (;;) try { for (;;) {} } catch {} finally { for (;;) {} }",
    "a loop of awaits": "console.log('on'); for (;;) await null",
    "a child": "console.log('on'); require('child_process').execSync('sleep 1000'); while (true) {}",
    "a lock": "console.log('on'); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
    "a value that is shown": "({ [Symbol.for('nodejs.util.inspect.custom')]() { console.log('on'); while (true) {} } })",
    "a value of the code's own": "({ toHtml() { console.log('on'); while (true) {} } })",
}


@needs_node
@pytest.mark.parametrize("what", JAVASCRIPT)
def test_javascript_is_interrupted_in(box: Guest, what: str) -> None:
    made = box.create("javascript")
    assert box.run("var kept = 5", context_id=made).end.status == "ok"
    assert interrupted(box, JAVASCRIPT[what], context_id=made) == "interrupted"
    told = box.run("kept", context_id=made)
    assert (told.end.status, told.value) == ("ok", "5")
    box.ask("DELETE", f"/v1/contexts/{made}")


@needs_node
@pytest.mark.parametrize("what", ["an await", "a loop", "a loop after an await", "a loop that prints"])
def test_what_runs_after_an_interrupted_javascript_is_not_interrupted(box: Guest, what: str) -> None:
    made = box.create("javascript")
    for number in range(ROUNDS):
        assert interrupted(box, JAVASCRIPT[what], context_id=made) == "interrupted"
        told = box.run(f"await null; {number}", context_id=made)
        assert (told.end.status, told.value) == ("ok", str(number))
    box.ask("DELETE", f"/v1/contexts/{made}")


@needs_node
def test_javascript_that_ends_as_it_is_interrupted_spares_what_follows(box: Guest) -> None:
    made = box.create("javascript")
    for _ in range(ROUNDS):
        stream = box.stream("console.log('on'); for (let i = 0; i < 1e5; i++);", context_id=made)
        following = box.stream("for (let i = 0; i < 1e6; i++); 'fine'", context_id=made)
        accepted = stream.until(Accepted)
        box.ask("POST", f"/v1/executions/{accepted.execution_id}/interrupt")
        assert stream.finish().end.status in ("ok", "interrupted")
        assert following.finish().value == "'fine'"
    box.ask("DELETE", f"/v1/contexts/{made}")
