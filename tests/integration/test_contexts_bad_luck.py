"""Code that is hostile to its own interpreter, clients and nodes that go away in the middle of it: each costs at most
the context in which it happens."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from cloche import CodeOutput, LimitUnenforceableError, NotFoundError, Sandbox, SandboxDeadError
from cloche.model.code import MAX_CONTEXTS, Language
from tests.integration.bad_luck import kill_node, read_until, until
from tests.integration.code_contexts import client, default, need, once, well

#: says a line, and goes on when a file is there
WAITING = "print('begun', flush=True)\nimport os, time\nwhile not os.path.exists('go'): time.sleep(0.005)\n"
ENDLESS = "print('begun', flush=True)\nwhile True: pass"
#: numbered lines, as fast as they can be said
NUMBERS = "for number in range({}): print(number)"
#: what people and attackers write to descriptors that they find open
FORGED = [
    b"\x00" * 64,
    b"\xff" * 4096,
    b'{"type":"ended","seq":3,"status":"ok"}\n',
    b"v\x00\x00\x00\x04\x00\x00\x00\x00",
    b"d\x7f\xff\xff\xff",
    b"d\x00\x00\x00\x00",
    b"s\x00\x00\x00\x00" * 100,
]


def numbers(count: int) -> str:
    return "".join(f"{number}\n" for number in range(count))


# --- interpreters that are mistreated


def test_a_client_that_is_interrupted_interrupts_its_code(sandbox: Sandbox) -> None:
    sandbox.run_code("kept = 1")
    end_client(client(sandbox, ENDLESS), signal.SIGINT)
    until(lambda: default(sandbox).info.state == "idle", "the code was interrupted")
    assert sandbox.run_code("kept").text == "1"


def test_code_that_takes_all_memory_ends_its_context_alone(real_home: Path) -> None:
    try:
        box = Sandbox.create(memory="128m")
    except LimitUnenforceableError as error:
        pytest.skip(error.message)
    with box:
        spawned = box.spawn("sleep", "1000")
        done = box.run_code("taken = []\nwhile True: taken.append(bytearray(1 << 20))")
        if done.status == "error":  # the allocation failed before the kernel had to act
            assert done.error is not None and done.error.name == "MemoryError"
        else:
            assert (done.status, done.limit_hit, done.state_kept) == ("context_ended", "memory", False)
            assert [known.info.end for known in box.contexts.list()] == ["limit"]
        well(box)
        assert spawned.refresh().state == "running" and box.info().state == "running"


@pytest.mark.parametrize(
    "code",
    [
        "import os\nif os.fork() == 0: x = 'child'\nprint('both')",
        "import os\npid = os.fork()\nif pid == 0: os._exit(3)\nos.waitpid(pid, 0)",
        "import os\nif os.fork() == 0:\n    while True: os.write(4, b'v' * 1000)",
        "import multiprocessing as m\nm.get_context('fork').Pool(2).map(abs, [1, -2])",
        "import threading, os\nthreading.Thread(target=lambda: os.fork()).start()",
        "import subprocess\nsubprocess.Popen(['sleep', '1000'])",
        "import os, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nos.system('true')",
    ],
)
def test_code_that_forks_confuses_nothing(sandbox: Sandbox, code: str) -> None:
    done = sandbox.run_code(code, timeout_seconds=20)
    assert done.status in ("ok", "error", "context_ended"), done
    well(sandbox)


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.closerange(0, 1000)",
        "import os\nos.close(1)\nprint('x')",
        "import os\nfor fd in (0, 1, 2): os.close(fd)\nopen('/dev/null'); open('/dev/null'); open('/dev/null')",
        "import os\nfor fd in range(3, 100):\n    try: os.dup2(1, fd)\n    except OSError: pass",
        "import os\nfor fd in range(3, 100):\n    try: os.set_blocking(fd, False)\n    except OSError: pass",
        "import sys\nsys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
        "import os\nos._exit(0)",
        "import os\nos.kill(os.getpid(), 9)",
        "import os\nos.killpg(0, 15)",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        "import ctypes\nctypes.string_at(0)",
        "exit()",
        "raise SystemExit(3)",
        "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'print(1)'])",
        "import threading\nthreading.Thread(target=lambda: exec('while True: pass'), daemon=True).start()",
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))",
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1, 1))\nx = bytearray(1 << 20)",
    ],
)
def test_code_that_mistreats_its_interpreter_costs_at_most_its_context(sandbox: Sandbox, code: str) -> None:
    done = sandbox.run_code(code, timeout_seconds=3)
    assert done.status in ("ok", "error", "context_ended", "timeout"), done
    if not done.state_kept or sandbox.run_code("1", timeout_seconds=3).text != "1":
        # it may have made its own interpreter useless, and a restart mends that
        for known in sandbox.contexts.list():
            known.remove()
    well(sandbox)


@pytest.mark.parametrize("forged", FORGED, ids=lambda forged: repr(forged[:12]))
def test_forged_frames_are_no_more_than_results_of_their_own(sandbox: Sandbox, forged: bytes) -> None:
    other = sandbox.contexts.create()
    done = sandbox.run_code(
        f"import os\nfor fd in range(3, 20):\n    try: os.write(fd, {forged!r})\n    except OSError: pass",
        timeout_seconds=5,
    )
    assert done.status in ("ok", "error", "context_ended", "timeout")
    assert other.run("6 * 7").text == "42"
    until(lambda: well_again(sandbox), "the default context answers, or a new one does")
    assert sandbox.exec("echo", "alive").stdout == "alive\n"


def well_again(sandbox: Sandbox) -> bool:
    done = sandbox.run_code("6 * 7", timeout_seconds=5)
    if done.text != "42":
        for known in sandbox.contexts.list():
            if known.info.default:
                known.remove()
    return done.text == "42"


@pytest.mark.parametrize(
    "code",
    [
        "print = None",
        "import sys\nsys.stdout = sys.stderr = None",
        "import sys\nsys.stdout = 7\nsys.displayhook = 1; sys.excepthook = 2",
        "__builtins__ = None",
        "import builtins\nfor name in dir(builtins):\n    if name[0] != '_': setattr(builtins, name, None)",
        "import sys\nsys.modules.clear()",
        "import os\nos.write = os.read = None",
        "import sys\nsys.settrace(lambda *a: 1 / 0)",
        "import sys\nsys.setrecursionlimit(10)",
        "import json, base64, io, traceback, ast\nfor m in (json, base64, io, traceback, ast): m.__dict__.clear()",
        "globals().clear()",
        "import gc\ngc.disable()\nimport signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)",
        "class int(int): pass\nlen = str = type = isinstance = repr = None",
    ],
)
def test_names_that_are_redefined_stay_the_codes_own_matter(sandbox: Sandbox, code: str) -> None:
    done = sandbox.run_code(code, timeout_seconds=5)
    assert done.status in ("ok", "error")
    again = sandbox.run_code("6 * 7", timeout_seconds=5)
    assert again.status in ("ok", "error")
    default(sandbox).restart()
    well(sandbox)


@pytest.mark.parametrize(
    "code",
    [
        "def f(): f()\nf()",
        "class D:\n    def __repr__(self): return repr(self)\nD()",
        "x = []\nfor _ in range(100_000): x = [x]\nx",
        "x = {}\nx['x'] = x\nx",
        "eval('(' * 10_000)",
        "raise RecursionError('x' * 10_000_000)",
    ],
)
def test_depth_is_an_error_or_a_value_and_no_more(sandbox: Sandbox, code: str) -> None:
    assert sandbox.run_code(code, timeout_seconds=20).status in ("ok", "error", "context_ended")
    well(sandbox)


LIES = {
    "text that is none": "def __repr__(self): return 7",
    "a failure": "def __repr__(self): raise ValueError('no')",
    "an exit": "def __repr__(self): raise SystemExit",
    "lone surrogates": r"def __repr__(self): return '\ud800\udcff'",
    "terminal codes": r"def __repr__(self): return '\x1b[2J\x07' + chr(0x202e)",
    "html that is bytes": "def _repr_html_(self): return b'<b>'",
    "a png that is text": "def _repr_png_(self): return 'x' * 100",
    "a bundle of anything": "def _repr_mimebundle_(self, **k): return {1: 2, 'a': object(), 'text/plain': [self]}",
    "a bundle that is none": "def _repr_mimebundle_(self, **k): return 7",
    "a bundle with deep values": "def _repr_mimebundle_(self, **k):\n"
    "        x = []\n        for _ in range(900): x = [x]\n        return {'application/json': x}",
    "numbers that are no JSON": "def _repr_json_(self): return [float('nan'), float('inf'), 10 ** 400, 1e308 * 10]",
    "numbers that are too long": "def _repr_json_(self): return 10 ** 5000",
    "huge text": "def _repr_html_(self): return 'x' * (20 << 20)",
    "very many types": "def _repr_mimebundle_(self, **k): return {f'a/{n}': 'x' for n in range(100_000)}",
    "names that fail": "def __getattr__(self, name): raise RuntimeError(name)",
    "names that are all there": "def __getattr__(self, name): return lambda *a, **k: self",
    "a class that lies": "__class__ = property(lambda self: 1 / 0)",
}


@pytest.mark.parametrize("lie", LIES)
def test_values_that_lie_are_results_or_errors_of_their_own(sandbox: Sandbox, lie: str) -> None:
    done = sandbox.run_code(f"class Liar:\n    {LIES[lie]}\ndisplay(Liar())\nLiar()", timeout_seconds=20)
    assert done.status in ("ok", "error"), done
    for one in done.results:
        assert all(isinstance(name, str) for name in one.data)
        repr(one), one.text, one.html, one.png, one._repr_mimebundle_()
    repr(done), done._repr_mimebundle_()
    well(sandbox)


@pytest.mark.parametrize(
    "code",
    [
        "# -*- coding: utf-7 -*-\nprint('+AGE-')",
        "# coding: no-such-encoding\n1",
        "\ufeff1 + 1",
        "x = '\udcff'",
        "print('a\0b')",
        "\0",
        "é = 1\nπ = 2\né + π",
        "print('\\udcff')",
        "if 1:\n\tx = 1\n        y = 2",
        "(" * 5000,
        "'''",
        "\\",
        "await x",
        "x = 1;\r\ny = 2\r\nx + y",
        "\x0c1",
        "print('\U0001f600' * 100_000)",
    ],
)
def test_sources_of_any_kind_are_run_or_refused(sandbox: Sandbox, code: str) -> None:
    assert sandbox.run_code(code, timeout_seconds=20).status in ("ok", "error")
    well(sandbox)


LATE = 'setTimeout(() => { throw new Error("x".repeat(1e6)) }, 0); await new Promise((done) => setTimeout(done, 50))'
TOO_LARGE: list[tuple[Language, str]] = [
    ("python", 'display("a", metadata={"k": "m" * 24_000_000})'),
    ("python", 'display({"text/plain": "x", "a/" + "b" * 24_000_000: "y"}, raw=True)'),
    ("javascript", 'display({"text/plain": "a".repeat(12e6), "text/html": "b".repeat(12e6)}, {raw: true})'),
    ("javascript", LATE),
    ("javascript", 'const told = new SyntaxError("y".repeat(5e6)); told.stack = "gone"; throw told'),
    ("bash", ") " + "a" * 5_000_000),
]


@pytest.mark.parametrize(("language", "code"), TOO_LARGE, ids=lambda value: value[:40])
def test_what_is_too_large_to_be_told_is_cut_and_the_context_goes_on(
    sandbox: Sandbox, language: Language, code: str
) -> None:
    need(sandbox, language)
    done = sandbox.run_code(code, language=language)
    assert (done.status in ("ok", "error"), done.state_kept) == (True, True), done.error


def test_an_error_of_bash_keeps_the_paths_in_it(sandbox: Sandbox) -> None:
    need(sandbox, "bash")
    done = sandbox.run_code(") /usr/bin/env", language="bash")
    assert done.error is not None
    assert done.error.message.startswith("bash: line 1: ")
    assert "/usr/bin/env" in done.error.traceback


@pytest.mark.slow
def test_a_hundred_megabytes_come_through(sandbox: Sandbox) -> None:
    told = 0

    def count(text: str) -> None:
        nonlocal told
        told += len(text)

    done = sandbox.run_code("for _ in range(100): print('x' * 999_999)", on_stdout=count)
    assert (told, done.status, done.truncated, len(done.stdout)) == (100_000_000, "ok", True, 64 << 20)
    well(sandbox)


def test_output_that_nobody_reads_is_bounded_and_the_gap_is_told(sandbox: Sandbox) -> None:
    first = sandbox.stream_code("for _ in range(50): print('x' * 999_999)\nprint('end')", on_disconnect="keep")
    next(first)
    execution_id = first.execution_id
    assert execution_id is not None
    first.close()
    until(lambda: default(sandbox).info.state == "idle", "the code has ended without a reader")
    late = sandbox.execution(execution_id).result()
    assert late.lost_events > 0 and late.stdout.endswith("end\n") and late.status == "ok"


@pytest.mark.slow
def test_more_contexts_than_there_may_be_at_once_come_one_after_the_other(sandbox: Sandbox) -> None:
    for number in range(MAX_CONTEXTS + 16):
        context = sandbox.contexts.create()
        assert context.run(f"x = {number}; x").text == str(number)
        context.remove()
    assert sandbox.contexts.list() == [] and sandbox.processes() == []
    well(sandbox)


# --- clients, nodes and sandboxes that go away


def end_client(running: subprocess.Popen[bytes], number: int) -> None:
    """Send it this signal once its code has begun."""
    assert running.stdout is not None
    read_until(running.stdout.fileno(), b"begun\n")
    running.send_signal(number)
    running.wait(30)
    running.stdout.close()


@pytest.mark.slow
def test_code_of_clients_that_are_killed_is_interrupted(sandbox: Sandbox) -> None:
    """Another reader may come within ten seconds, so one test waits for both ways to be killed."""
    with Sandbox.create() as other:
        boxes = {signal.SIGTERM: sandbox, signal.SIGKILL: other}
        for number, box in boxes.items():
            box.run_code("kept = 1")
            end_client(client(box, ENDLESS), number)
        for box in boxes.values():
            until(lambda box=box: default(box).info.state == "idle", "the code was interrupted")  # type: ignore[misc]
            assert well(box).number == 3
            assert box.run_code("kept").text == "1"


def test_code_that_is_kept_outlives_its_client(sandbox: Sandbox) -> None:
    running = client(sandbox, WAITING + "print('end')", "keep")
    assert running.stdout is not None
    read_until(running.stdout.fileno(), b"begun\n")
    execution_id = default(sandbox).info.execution_id
    running.kill()
    running.wait(30)
    running.stdout.close()
    assert execution_id is not None and default(sandbox).info.state == "busy"
    sandbox.files.write("go", "")
    assert sandbox.execution(execution_id).result().stdout == "begun\nend\n"


def test_a_node_that_is_killed_under_code_costs_no_event(real_home: Path, sandbox: Sandbox) -> None:
    seen, killed, count = 0, 0, 200_000

    def told(text: str) -> None:
        nonlocal seen, killed
        seen += len(text)
        if killed < 3 and seen > (killed + 1) * 300_000:
            killed += 1
            kill_node(real_home)

    done = sandbox.run_code(NUMBERS.format(count), on_stdout=told)
    assert (killed, done.status, done.lost_events) == (3, "ok", 0)
    assert done.stdout == numbers(count) and seen == len(done.stdout)


def test_a_silent_cell_outlives_a_node_that_is_killed(real_home: Path, sandbox: Sandbox) -> None:
    def kill_and_go_on() -> None:
        kill_node(real_home)
        sandbox.files.write("go", "")

    assert sandbox.run_code(WAITING + "6 * 7", on_stdout=once(kill_and_go_on)).text == "42"
    kill_node(real_home)
    assert Sandbox.from_id(sandbox.id).run_code("6 * 7").number == 2


@pytest.mark.parametrize("way", ["stop", "remove"])
def test_a_sandbox_that_ends_under_code_is_told(real_home: Path, way: str) -> None:
    with Sandbox.create() as box:
        end = box.remove if way == "remove" else lambda: box.stop(grace_seconds=0)
        with pytest.raises(SandboxDeadError) as caught:
            box.run_code(ENDLESS, on_stdout=once(end))
        assert caught.value.details["reason"] in ("removed", "stopped", "stopping")


def test_a_context_that_is_removed_under_code_ends_it(sandbox: Sandbox) -> None:
    done = sandbox.run_code(ENDLESS, on_stdout=once(lambda: default(sandbox).remove()))
    assert (done.status, done.state_kept) == ("context_ended", False)
    done = sandbox.run_code(ENDLESS, on_stdout=once(lambda: default(sandbox).restart()))
    assert (done.status, done.state_kept) == ("context_ended", False)
    well(sandbox)


def test_clients_that_come_and_go_at_once_leave_the_context_well(sandbox: Sandbox) -> None:
    def hasty() -> None:
        for event in sandbox.stream_code(ENDLESS):
            if isinstance(event, CodeOutput):
                break

    threads = [threading.Thread(target=hasty) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert well(sandbox).number == 9


def test_everything_of_a_context_goes_with_it(sandbox: Sandbox) -> None:
    need(sandbox, "bash")
    context = sandbox.contexts.create(language="bash")
    context.run("sleep 1000 & (setsid sleep 1001 &) ; echo $!").raise_for_error()
    context.remove()
    with pytest.raises(NotFoundError):
        context.run("true")
    left = sandbox.exec("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert "sleep 1000" not in left, os.linesep.join([left])
