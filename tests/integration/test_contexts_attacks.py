"""Code that attacks the guest, the node and other contexts from within its interpreter: it may cost its own context, and
nothing else. `test_as_ordinary_user` runs this file in each mode of ids."""
# ruff: noqa: E501  (code as an attacker writes it)

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cloche import CodeOutput, Context, NotFoundError, Sandbox
from tests.integration.bad_luck import until
from tests.integration.code_contexts import need

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

#: what the guest may hold at most while it is attacked: the rings of what runs and of what ended, and results on their way
MOST_MIB = 400
FORGE = """
import os, struct, sys
def frame(kind, payload=b"", size=None):
    return kind + (len(payload) if size is None else size).to_bytes(4, "big") + payload
def fields(*parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
def say(data):
    sent = 0
    while sent < len(data):
        sent += os.write(4, data[sent:])
"""


def memory(size: str) -> Any:
    """The limit, where the one who runs this can have one."""
    return {"memory": size} if os.geteuid() == 0 else {}


@pytest.fixture(scope="module")
def attacked(real_home: object) -> Iterator[Sandbox]:
    with Sandbox.create(pids=200, **memory("1g")) as made:
        yield made


@pytest.fixture
def victim(attacked: Sandbox) -> Iterator[Context]:
    """A context of the same sandbox with something to lose. Afterwards it has it still, and all else works as well."""
    with attacked.contexts.create() as made:
        made.run("kept = 'mine'")
        yield made
        told = made.run("kept")
        assert (told.status, told.text, len(told.results), told.stdout) == ("ok", "'mine'", 1, "")
        assert attacked.exec("echo", "alive").stdout == "alive\n"
        assert guest_mib(attacked) < MOST_MIB


def guest_mib(sandbox: Sandbox) -> int:
    """Memory that the guest holds, MiB."""
    (kib,) = re.findall(r"VmRSS:\s+(\d+)", sandbox.exec("cat", "/proc/1/status").stdout)
    return int(kib) >> 10


@pytest.fixture
def hostile(attacked: Sandbox) -> Iterator[Context]:
    made = attacked.contexts.create()
    yield made
    with contextlib.suppress(NotFoundError):
        made.remove()


FORGED = {
    "a size beyond all bounds": "say(frame(b'o', b'x', 0xffffffff))",
    "a size that never comes": "say(frame(b'v', b'x' * 1000, 20 << 20)); import time; time.sleep(1000)",
    "the largest that may be": "say(frame(b'v', bytes(20 << 20)))",
    "the largest one after the other": "for _ in range(20): say(frame(b'v', fields(b'{}', b'', b'text/plain', bytes(19 << 20))))",
    "every kind, empty": "say(b''.join(frame(bytes([kind])) for kind in b'oedvxsiDR'))",
    "every kind, with NUL": "say(b''.join(frame(bytes([kind]), bytes(64)) for kind in b'oedvxDR'))",
    "every byte as a kind": "[say(frame(bytes([kind]))) for kind in range(256)]",
    "ends of other executions": "say(b''.join(frame(b'D', b'%d ok' % n) for n in range(-5, 1000)))",
    "ends with numbers beyond all": "say(frame(b'D', b'9' * 60) + frame(b'D', b'-1 ok') + frame(b'D', b'1e9 ok') + frame(b'D', b'2 ' + b'\\0' * 50))",
    "an end before the end": "say(frame(b'D', b'1 ok') * 1000)",
    "a status of its own": "say(frame(b'D', b'1 timeout')); say(frame(b'D', b'1 context_ended'))",
    "welcomes": "say(frame(b'R', b'9.9\\n\\0') * 1000)",
    "a flood of syncs": "say(frame(b's') * 300_000)",
    "a flood of interrupts ignored": "say(frame(b'i') * 300_000)",
    "a flood of outputs": "say(frame(b'o', b'x') * 300_000)",
    "a flood of outputs in turn": "say((frame(b'o', b'x') + frame(b'e', b'y')) * 150_000)",
    "a flood of results": "say(frame(b'd', fields(b'{}', b'', b'a/b', b'x')) * 300_000)",
    "a flood of errors": "say(frame(b'x', fields(b'E', b'm', b't')) * 300_000)",
    "frames that never end": "one = frame(b'o', b'x' * 4000) * 50\nwhile True: say(one)",
    "results that never end": "one = frame(b'd', fields(b'{}', b'', b'text/plain', b'x' * 100_000))\nwhile True: say(one)",
    "deep JSON": "say(frame(b'v', fields(b'[' * 100_000, b'', b'application/json', b'[' * 10_000_000)))",
    "deep JSON that is whole": "say(frame(b'v', fields(b'{}', b'', b'application/json', b'[' * 9_000 + b']' * 9_000)))",
    "wide JSON": "say(frame(b'v', fields(b'{}', b'', b'application/json', b'[' + b'0,' * 7_000_000 + b'0]')))",
    "JSON of many objects": "say(frame(b'v', fields(b'{}', b'', b'application/json', b'[' + b'{},' * 5_000_000 + b'{}]')))",
    "text that grows": "say(frame(b'v', fields(b'{}', b'', b'text/plain', b'\\x01' * (15 << 20))))",
    "JSON that grows": "say(frame(b'v', fields(b'{}', b'', b'application/json', b'\"' + b'<' * (15 << 20) + b'\"')))",
    "many types": "say(frame(b'v', fields(b'{}', b'', *(part for n in range(100_000) for part in (b'a/%d' % n, b'x')))))",
    "types that are none": "say(frame(b'v', fields(b'{}', b'a\\nb\\0/' + b'x' * 100_000, b'\\0/\\0', b'x', b'no', b'x', b'\\xff/\\xff', b'x')))",
    "fields that lie": "say(frame(b'v', struct.pack('>I', 0xffffffff) + b'x') + frame(b'x', struct.pack('>I', 7)))",
    "bytes that are no text": "say(frame(b'o', bytes(range(256)) * 1000) + frame(b'x', fields(*[bytes(range(256)) * 1000] * 3)))",
    "noise": "while True: say(os.urandom(65536))",
    "noise in frames": "while True: say(frame(b'oedvx'[os.urandom(1)[0] % 5:][:1], os.urandom(1000)))",
    "answers to itself": "os.write(3, b'x')",
    "the guest's own words": "import fcntl\nfcntl.fcntl(3, 1031, 4096); os.close(3)",
    "pipes that are made small": "import fcntl\n[fcntl.fcntl(fd, 1031, 4096) for fd in (1, 2, 4)]\nprint('x' * 300_000)",
}


@pytest.mark.parametrize("what", FORGED)
def test_forged_frames_cost_their_own_context_at_most(
    attacked: Sandbox, hostile: Context, victim: Context, what: str
) -> None:
    # who only waits is given less
    seconds = 15 if "flood" in what else 1 if "never comes" in what else 3
    done = hostile.run(FORGE + FORGED[what], timeout_seconds=seconds, max_output_bytes=1 << 20)
    assert done.status in ("ok", "error", "timeout", "context_ended")
    hostile.restart()
    assert hostile.run("6 * 7").text == "42"


#: what the code does before it is interrupted, restarted or removed, or its time is over
STUBBORN = {
    "stopped": "import os, signal\nprint('on', flush=True)\nos.kill(os.getpid(), signal.SIGSTOP)",
    "stopped by its child": "import os, signal, time\nprint('on', flush=True)\nparent = os.getpid()\nif os.fork() == 0:\n    os.setsid()\n    while True:\n        os.kill(parent, signal.SIGSTOP); time.sleep(0.01)\ntime.sleep(1000)",
    "deaf": "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('on', flush=True)\nwhile True: time.sleep(1)",
    "blocked": "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nprint('on', flush=True)\nwhile True: pass",
    "catching": "print('on', flush=True)\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "in another group": "import os, time\nchild = os.fork()\nif child == 0:\n    os.setpgid(0, 0); time.sleep(1000)\nprint('on', flush=True)\nwhile True:\n    try: os.waitpid(child, 0)\n    except KeyboardInterrupt: pass",
    "holding its lock": "print('on', flush=True)\nn = 10 ** 8\n10 ** n",
    "breeding": "import os, time\nprint('on', flush=True)\nwhile True:\n    try: os.fork()\n    except BaseException: time.sleep(0.01)",
}


@pytest.mark.parametrize("way", ["timeout", "restart", "remove"])
@pytest.mark.parametrize("what", STUBBORN)
def test_code_that_will_not_stop_is_stopped(
    attacked: Sandbox, hostile: Context, victim: Context, what: str, way: str
) -> None:
    stream = hostile.stream(STUBBORN[what], timeout_seconds=0.5 if way == "timeout" else 60)
    next(event for event in stream if isinstance(event, CodeOutput))
    if way != "timeout":
        getattr(hostile, way)()
    done = stream.result()
    assert done.status in (("timeout",) if way == "timeout" else ("context_ended",))
    if way == "restart":
        assert hostile.run("6 * 7").text == "42"
    with contextlib.suppress(NotFoundError):
        hostile.remove()
    until(lambda: processes(attacked) <= 1, "every process of its session is gone")


def processes(sandbox: Sandbox) -> int:
    """Interpreters that run inside."""
    listed = sandbox.exec("sh", "-c", "cat /proc/[0-9]*/comm").stdout.split()
    return len([name for name in listed if name.startswith(("python", "node"))])


def test_an_interrupt_of_a_stopped_interpreter_waits_and_a_restart_mends_it(
    attacked: Sandbox, hostile: Context, victim: Context
) -> None:
    stream = hostile.stream(STUBBORN["stopped"])
    next(event for event in stream if isinstance(event, CodeOutput))
    stat = f"/proc/{hostile.info.pid}/stat"
    until(lambda: attacked.exec("cat", stat).stdout.split(") ")[1][0] == "T", "it has stopped itself")
    for _ in range(20):
        hostile.interrupt()
    hostile.restart()
    assert stream.result().status == "context_ended"
    assert hostile.run("6 * 7").text == "42"


def test_a_daemon_that_keeps_the_descriptors_speaks_to_nobody(attacked: Sandbox, victim: Context) -> None:
    """It leaves the session and outlives the context: what it writes then is read by none, and it is gone with the box."""
    code = FORGE + (
        "import signal, time\nfor number in (3, 4): os.set_inheritable(number, True)\nif os.fork() == 0:\n"
        "    import _posixsubprocess\n    signal.signal(signal.SIGPIPE, signal.SIG_IGN)\n    os._exit(0)\n"
        "import subprocess, sys\nloop = '''import os, time\\nwhile not os.path.exists('/tmp/end'):\\n"
        "    for number in (1, 2, 3, 4):\\n        try: os.write(number, b\"v\\\\0\\\\0\\\\0\\\\0\")\\n        except OSError: pass\\n    time.sleep(0.001)'''\n"
        "subprocess.Popen([sys.executable, '-c', loop], close_fds=False, start_new_session=True); None"
    )
    held = attacked.contexts.create()
    held.run(code, timeout_seconds=5)
    held.remove()
    for _ in range(5):
        with attacked.contexts.create() as fresh:
            assert fresh.run("6 * 7").text == "42"
    attacked.exec("touch", "/tmp/end")
    until(lambda: processes(attacked) <= 1, "the daemon has ended")
    attacked.exec("rm", "/tmp/end")


STEAL = (
    FORGE
    + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def check(number):
    if number < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return number
def by_pidfd():
    for number in range(30):
        os.write(check(libc.syscall(438, check(libc.syscall(434, TARGET, 0)), number, 0)), b"x")
        return
def by_proc():
    for number in os.listdir(f"/proc/{TARGET}/fd"): os.open(f"/proc/{TARGET}/fd/{number}", os.O_RDWR)
def by_memory():
    os.open(f"/proc/{TARGET}/mem", os.O_RDWR)
worked = []
for attempt in (by_pidfd, by_proc, by_memory, lambda: check(libc.ptrace(16, TARGET, 0, 0)), lambda: check(libc.ptrace(0x4206, TARGET, 0, 0)),
                lambda: check(libc.syscall(310, TARGET, None, 0, None, 0, 0)), lambda: os.kill(TARGET, 11), lambda: os.kill(TARGET, 9)):
    try: attempt()
    except (OSError, PermissionError): continue
    worked.append(attempt)
len(worked) if TARGET != 1 else [attempt.__code__.co_names for attempt in worked if "kill" not in attempt.__code__.co_names]
"""
)


def test_nothing_of_the_guest_can_be_stolen(hostile: Context, victim: Context) -> None:
    assert hostile.run("TARGET = 1\n" + STEAL).text == "[]"


def test_the_interpreter_of_another_context_is_neither_traced_nor_robbed_of_descriptors(
    attacked: Sandbox, hostile: Context, victim: Context
) -> None:
    """As any program of the same user it may be killed, or changed through its memory; it is no way to the guest."""
    code = (
        STEAL.replace("by_memory,", "")
        .replace(", lambda: os.kill(TARGET, 11), lambda: os.kill(TARGET, 9)", "")
        .replace("by_proc,", "")
    )
    assert hostile.run(f"TARGET = {victim.info.pid}\n" + code).text == "0"
    other = attacked.contexts.create()
    hostile.run(f"import os; os.kill({other.info.pid}, 9)")
    until(lambda: other.refresh().state == "ended", "it was killed")
    other.restart()
    assert other.run("6 * 7").text == "42"
    other.remove()


def test_pipes_that_are_used_up_leave_contexts_working(attacked: Sandbox, hostile: Context, victim: Context) -> None:
    """The kernel gives a user who has many pipes only small ones: programs, code and results still come through."""
    done = hostile.run(
        "import fcntl, os, resource\nheld = []\nresource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)\ntry:\n"
        "    while len(held) < 900:\n        held.append(os.pipe())\n        try: fcntl.fcntl(held[-1][0], 1031, 1 << 20)\n        except OSError: pass\n"
        "except OSError: pass\nlen(held) > 10",
        timeout_seconds=20,
    )
    assert done.text == "True"
    for language in ("python", "bash", "javascript"):
        if language not in attacked.contexts.languages():
            continue
        with attacked.contexts.create(language=language) as fresh:
            code = {"python": "print(6 * 7)", "bash": "echo $((6 * 7))", "javascript": "console.log(6 * 7)"}[language]
            assert (
                fresh.run(code + "\n" + ("#" if language != "javascript" else "//") + "x" * 1_000_000).stdout == "42\n"
            )


def test_code_and_results_of_the_largest_size(attacked: Sandbox, hostile: Context, victim: Context) -> None:
    assert hostile.run("#" + "x" * ((8 << 20) - 10) + "\n7").text == "7"
    assert hostile.run("[" + "1," * (1 << 18) + "]\nNone", timeout_seconds=60).status == "ok"
    for value in (
        "'x' * (100 << 20)",
        "b'\\0' * (25 << 20)",
        "class V:\n    def _repr_html_(self): return '<' * (100 << 20)\nV()",
    ):
        done = hostile.run(value, timeout_seconds=60)
        assert done.status in ("ok", "error")
        hostile.restart()


def test_a_fork_bomb_that_leaves_its_session_hurts_its_own_sandbox_only(real_home: object) -> None:
    """Nothing can start there until it is removed; the node and other sandboxes do not notice."""
    bomb = "import os, time\nwhile True:\n    try:\n        if os.fork() == 0: os.setsid()\n    except OSError: time.sleep(0.01)"
    with Sandbox.create(pids=64) as bombed, Sandbox.create() as neighbour:
        done = bombed.run_code(bomb, timeout_seconds=2)
        assert done.status in ("timeout", "context_ended", "error", "interrupted")
        assert neighbour.exec("echo", "alive").stdout == "alive\n"
        assert bombed.contexts.list() is not None
    assert neighbour.id not in [info.id for info in Sandbox.list() if info.id == bombed.id]


def test_javascript_that_is_stubborn_is_stopped(attacked: Sandbox, victim: Context) -> None:
    need(attacked, "javascript")
    for code in (
        "process.removeAllListeners('SIGINT'); process.on('SIGINT', () => {}); console.log('on'); for (;;) try { for (;;); } finally { for (;;); }",
        "process.kill(process.pid, 'SIGSTOP'); console.log('on'); for (;;);",
        "const fs = require('fs'); for (let fd = 3; fd < 40; fd++) try { fs.writeSync(fd, Buffer.alloc(65536)) } catch {}; console.log('on')",
        "const fs = require('fs'); for (let fd = 5; fd < 40; fd++) try { fs.closeSync(fd) } catch {}; console.log('on'); for (;;);",
        "Atomics.compareExchange = Atomics.store = Atomics.notify = () => 1; console.log('on'); for (;;);",
        "const { Worker } = require('worker_threads'); for (let n = 0; n < 8; n++) new Worker('for (;;);', { eval: true }); console.log('on'); for (;;);",
        "const inspector = require('inspector'); const s = new inspector.Session(); s.connect(); s.post('Debugger.enable'); s.post('Debugger.pause'); console.log('on'); for (;;);",
    ):
        with attacked.contexts.create(language="javascript") as made:
            done = made.run(code, timeout_seconds=0.5)
            assert done.status in ("timeout", "context_ended", "ok", "error"), code
            made.restart()
            assert made.run("6 * 7").text == "42"


FLOODS = 12


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_flood_from_many_contexts_at_once_is_bounded(real_home: object) -> None:
    """They print as fast as they can and nobody reads most of them: the node, another sandbox and this one answer, and the
    guest holds a bounded amount of memory."""
    flood = "import sys\nwhile True: sys.stdout.write('x' * 65535 + '\\n')"
    with Sandbox.create(pids=300, **memory("3g")) as box, Sandbox.create() as neighbour:
        contexts = [box.contexts.create() for _ in range(FLOODS)]
        streams = [context.stream(flood, on_disconnect="keep") for context in contexts]
        for stream in streams:
            next(event for event in stream if isinstance(event, CodeOutput))
            stream.close()
        answered, most = threading.Event(), 0
        began = time.monotonic()
        while not answered.is_set():
            assert neighbour.exec("echo", "alive").stdout == "alive\n"
            most = max(most, guest_mib(box))
            if time.monotonic() - began > 5:
                answered.set()
        assert most < FLOODS * 32 + 512
        for context in contexts:
            context.remove()
        assert box.exec("echo", "alive").stdout == "alive\n"
        assert box.run_code("6 * 7").text == "42"
