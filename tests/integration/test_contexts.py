"""Code contexts as people use them, through the SDK and a real node, in every language that this machine has."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cloche import (
    AsyncSandbox,
    CodeEnded,
    CodeFailedError,
    CodeOutput,
    InterpreterMissingError,
    LimitHitError,
    NotFoundError,
    Result,
    Sandbox,
    UnavailableError,
    WrongStateError,
)
from tests.integration.code_contexts import default, need, once, well

#: writes a line, and goes on when a file is there: what happens in between is the test's to say
WAITING = """
import os, time
print("begun", flush=True)
while not os.path.exists("go"):
    time.sleep(0.005)
os.remove("go")
print("on")
"""


def test_python_shows_what_an_interpreter_would(sandbox: Sandbox) -> None:
    assert sandbox.run_code("import math\nx = 6").text is None
    done = sandbox.run_code("print('shown', x)\nimport sys; print('err', file=sys.stderr)\nx * 7")
    assert (done.text, done.stdout, done.stderr, done.number, done.ok) == ("42", "shown 6\n", "err\n", 2, True)
    assert sandbox.run_code("None").results == [] and sandbox.run_code("").ok
    assert sandbox.run_code("é = 'naïve ✓'; é").text == "'naïve ✓'"


def test_a_traceback_shows_the_users_line(sandbox: Sandbox) -> None:
    done = sandbox.run_code("def inner():\n    return 1 / 0\n\ninner()")
    assert (done.status, done.text) == ("error", None)
    assert done.error is not None and done.error.name == "ZeroDivisionError"
    assert "return 1 / 0" in done.error.traceback and "inner()" in done.error.traceback
    assert "kernel" not in done.error.traceback and "\x1b" not in done.error.traceback
    with pytest.raises(CodeFailedError, match="division by zero"):
        done.raise_for_error()
    wrong = sandbox.run_code("def f(:\n  pass")
    assert wrong.error is not None and wrong.error.name == "SyntaxError" and "def f(:" in wrong.error.traceback
    well(sandbox)


def test_input_is_refused_clearly(sandbox: Sandbox) -> None:
    done = sandbox.run_code("input('name? ')")
    assert done.status == "error" and done.error is not None and "input" in str(done.error).lower()
    well(sandbox)


def test_values_come_in_the_formats_that_they_have(sandbox: Sandbox) -> None:
    told: list[Result] = []
    done = sandbox.run_code(
        "class Table:\n"
        "    def __repr__(self): return 'plain'\n"
        "    def _repr_html_(self): return '<table></table>'\n"
        "    def _repr_png_(self): return b'\\x89PNG data'\n"
        "    def _repr_json_(self): return {'a': [1, None]}\n"
        "display(Table())\n"
        "Table()",
        on_result=told.append,
    )
    assert [one.kind for one in done.results] == ["display", "value"] and told == done.results
    for one in done.results:
        assert (one.text, one.html, one.png, one.json) == (
            "plain",
            "<table></table>",
            b"\x89PNG data",
            {"a": [1, None]},
        )


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_comes_while_the_code_runs(sandbox: Sandbox, stream: str) -> None:
    code = WAITING.replace('"begun", ', f'"begun", file=__import__("sys").{stream}, ')
    go = once(lambda: sandbox.files.write("go", ""))
    done = sandbox.run_code(code, on_stdout=go, on_stderr=go)
    assert (done.status, done.stdout + done.stderr) == ("ok", "begun\non\n" if stream == "stdout" else "on\nbegun\n")


def test_output_of_children_is_in_its_place(sandbox: Sandbox) -> None:
    done = sandbox.run_code("import os, subprocess\nprint('a')\nos.system('echo b')\nprint('c')\n"
                            "subprocess.run(['echo', 'd'])\nprint('e')\nos.write(1, b'raw\\n')\nNone")  # fmt: skip
    # what goes around the interpreter's own streams has no order among what they hold
    assert done.stdout.replace("raw\n", "") == "a\nb\nc\nd\ne\n" and "raw\n" in done.stdout


def test_events_can_be_looked_at_one_by_one(sandbox: Sandbox) -> None:
    stream = sandbox.stream_code("print('one')\n2")
    kinds = [type(event).__name__ for event in stream]
    assert (kinds[:2], kinds[-1]) == (["Accepted", "Started"], "CodeEnded")
    assert "CodeOutput" in kinds and "CodeResult" in kinds and stream.seq == len(kinds)


def test_an_interrupt_keeps_the_state(sandbox: Sandbox) -> None:
    sandbox.run_code("kept = 1")
    interrupt = once(lambda: default(sandbox).interrupt())
    done = sandbox.run_code("print('begun', flush=True)\nwhile True: pass", on_stdout=interrupt)
    assert (done.status, done.state_kept, done.stdout) == ("interrupted", True, "begun\n")
    assert sandbox.run_code("kept").text == "1"
    with pytest.raises(WrongStateError):
        default(sandbox).interrupt()


def test_a_timeout_interrupts_first_and_then_kills(sandbox: Sandbox) -> None:
    sandbox.run_code("kept = 1")
    gentle = sandbox.run_code("while True: pass", timeout_seconds=0.2)
    assert (gentle.status, gentle.state_kept, gentle.limit_hit) == ("timeout", True, "timeout")
    assert sandbox.run_code("kept").text == "1"
    stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    killed = sandbox.run_code(stubborn, timeout_seconds=0.2)
    assert (killed.status, killed.state_kept, killed.limit_hit) == ("timeout", False, "timeout")
    assert well(sandbox).number == 1
    assert sandbox.run_code("kept").error is not None
    assert [(known.info.state, known.info.end) for known in sandbox.contexts.list()] == [("ended", "timeout"),
                                                                                         ("idle", None)]  # fmt: skip


def test_contexts_have_states_of_their_own(sandbox: Sandbox) -> None:
    with (
        sandbox.contexts.create(env={"WHO": "me"}, cwd="/tmp") as one,
        sandbox.contexts.create() as other,
    ):
        assert one.run("import os; x = 1; (os.environ['WHO'], os.getcwd())").text == "('me', '/tmp')"
        assert other.run("x").error is not None and sandbox.run_code("x").error is not None
        assert one.restart().id == one.id
        assert one.run("x").error is not None
        assert {known.id for known in sandbox.contexts.list()} >= {one.id, other.id}
        assert sandbox.contexts.get(one.id[:12]).id == one.id or one.id[:12] == other.id[:12]
    with pytest.raises(NotFoundError):
        one.refresh()
    with pytest.raises(NotFoundError):
        one.run("1")


def test_bash_keeps_variables_functions_and_the_directory(sandbox: Sandbox) -> None:
    need(sandbox, "bash")
    sandbox.run_code("cd /tmp; x=1; greet() { echo hello $1; }", language="bash").raise_for_error()
    done = sandbox.run_code("greet $x; pwd; echo err >&2", language="bash")
    assert (done.stdout, done.stderr, done.status) == ("hello 1\n/tmp\n", "err\n", "ok")
    assert sandbox.run_code("false", language="bash").status == "error"
    assert sandbox.run_code("echo $x", language="bash").stdout == "1\n"


def test_javascript_keeps_its_state_and_awaits(sandbox: Sandbox) -> None:
    need(sandbox, "javascript")
    sandbox.run_code("let x = 20; const f = (n) => n * 2", language="javascript").raise_for_error()
    done = sandbox.run_code("console.log('shown'); f(x) + 2", language="javascript")
    assert (done.text, done.stdout) == ("42", "shown\n")
    assert sandbox.run_code("await Promise.resolve(7)", language="javascript").text == "7"
    failed = sandbox.run_code("throw new TypeError('no')", language="javascript")
    assert failed.error is not None and (failed.error.name, failed.error.message) == ("TypeError", "no")
    assert sandbox.run_code("x", language="javascript").text == "20"


def test_a_language_that_the_image_lacks_is_told_with_those_that_it_has(real_home: Path) -> None:
    with Sandbox.create(hide=["/usr/bin/node", "/usr/bin/nodejs"]) as box:
        assert "javascript" not in box.contexts.languages()
        for attempt in (
            lambda: box.run_code("1", language="javascript"),
            lambda: box.contexts.create(language="javascript"),
        ):
            with pytest.raises(InterpreterMissingError) as caught:
                attempt()
            assert "python" in caught.value.details["languages"] and "python" in str(caught.value.remedy)


def test_code_that_was_left_is_read_on(sandbox: Sandbox) -> None:
    stream = sandbox.stream_code(WAITING, on_disconnect="keep")
    for event in stream:
        if isinstance(event, CodeOutput):
            break
    execution_id, seq = stream.execution_id, stream.seq
    assert execution_id is not None
    stream.close()
    sandbox.files.write("go", "")
    rest = list(Sandbox.from_id(sandbox.id).execution(execution_id, after=seq))
    assert "".join(event.text for event in rest if isinstance(event, CodeOutput)) == "on\n"
    assert isinstance(rest[-1], CodeEnded) and rest[-1].status == "ok"
    assert sandbox.execution(execution_id).result().stdout == "begun\non\n"
    last = rest[-1].seq
    assert [list(sandbox.execution(execution_id, after=seq)) for seq in (last, last + 100)] == [[], []]


def test_what_is_there_so_far_can_be_read_without_waiting(sandbox: Sandbox) -> None:
    def look() -> None:
        execution_id = default(sandbox).info.execution_id
        assert execution_id is not None
        events = list(sandbox.execution(execution_id, follow=False))
        assert "".join(event.text for event in events if isinstance(event, CodeOutput)) == "begun\n"
        with pytest.raises(WrongStateError):
            sandbox.execution(execution_id, follow=False).result()
        sandbox.files.write("go", "")

    assert sandbox.run_code(WAITING, on_stdout=once(look)).ok


def test_code_that_is_left_behind_in_a_loop_is_interrupted_at_once(sandbox: Sandbox) -> None:
    for event in sandbox.stream_code("print('begun', flush=True)\nwhile True: pass"):
        if isinstance(event, CodeOutput):
            break
    assert well(sandbox).number == 2


def test_two_cells_at_once_run_one_after_the_other(sandbox: Sandbox) -> None:
    sandbox.run_code("import time; told = []")
    code = "told.append(({0}, 'in'))\ntime.sleep(0.01)\ntold.append(({0}, 'out'))"
    threads = [threading.Thread(target=sandbox.run_code, args=(code.format(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sandbox.run_code("[a[0] == b[0] and a[1:] + b[1:] == ('in', 'out') "
                            "for a, b in zip(told[::2], told[1::2])] == [True] * 8").text == "True"  # fmt: skip


def test_what_waits_in_the_queue_can_be_taken_out(sandbox: Sandbox) -> None:
    first = sandbox.stream_code(WAITING)
    for event in first:
        if isinstance(event, CodeOutput):
            break
    second = sandbox.stream_code("print('never')")
    accepted = next(second)
    assert accepted.ahead == 1  # type: ignore[union-attr]
    second.interrupt()
    assert (second.result().status, default(sandbox).info.queued) == ("interrupted", 0)
    sandbox.files.write("go", "")
    assert first.result().status == "ok"


def test_the_async_half_runs_contexts_side_by_side(sandbox: Sandbox) -> None:
    async def scene() -> None:
        box = await AsyncSandbox.from_id(sandbox.id)
        one, other = await asyncio.gather(box.contexts.create(), box.contexts.create())
        meet = "import os, time\nopen('{}', 'w')\nwhile not os.path.exists('{}'): time.sleep(0.005)\n'met'"
        found = await asyncio.gather(one.run(meet.format("a", "b")), other.run(meet.format("b", "a")))
        assert [done.text for done in found] == ["'met'", "'met'"]
        begun = asyncio.Event()
        code = "print('begun', flush=True)\nwhile True: pass"
        task = asyncio.ensure_future(one.run(code, on_stdout=lambda text: begun.set()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await one.run("6 * 7")).text == "42"

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_session_environment_and_a_restart_of_the_sandbox(real_home: Path) -> None:
    with Sandbox.create(env={"A": "stored"}, session_env={"B": "not stored"}) as box:
        assert box.run_code("import os; x = 1; (os.environ['A'], os.environ['B'])").text == "('stored', 'not stored')"
        box.stop(grace_seconds=0)
        with pytest.raises(WrongStateError):
            box.run_code("1")
        box.start(session_env={"B": "new"})
        assert box.contexts.list() == []
        assert box.run_code("import os; ('x' in dir(), os.environ['B'])").text == "(False, 'new')"


def test_a_paused_sandbox_is_waited_for(sandbox: Sandbox) -> None:
    def pause_for_a_moment() -> None:
        try:
            sandbox.pause()
        except UnavailableError as error:
            sandbox.files.write("go", "")
            pytest.skip(f"no pause here: {error.message}")
        sandbox.resume()
        sandbox.files.write("go", "")

    assert sandbox.run_code(WAITING, on_stdout=once(pause_for_a_moment)).stdout == "begun\non\n"


def test_there_is_a_bound_on_contexts(real_home: Path) -> None:
    with Sandbox.create(pids=512) as box:
        need(box, "bash")
        made = []
        with pytest.raises(LimitHitError):
            while len(made) < 100:
                made.append(box.contexts.create(language="bash"))
        assert len(made) == 64
        for context in made:
            assert context.run("echo $((6 * 7))").stdout == "42\n"
            context.remove()
        assert box.contexts.create(language="bash").run("echo again").stdout == "again\n"
