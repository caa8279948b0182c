"""Processes that do not end, do not read, or are frozen or removed under those who follow them."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest

from cloche import Gap, Output, Sandbox, SandboxDeadError, TimedOutError, WrongStateError
from tests.integration.bad_luck import CLI, cloche, read_until, until

STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True: signal.pause()
"""
SIZES = """
import os, signal
def say(*_): os.write(1, ("size %d %d\\n" % os.get_terminal_size()).encode())
signal.signal(signal.SIGWINCH, say)
say()
while True: signal.pause()
"""
GIB = 1 << 30


def ready(process) -> None:
    """Wait until it has said so."""
    seen = b""
    while b"ready" not in seen:
        seen += next(process.stdout)


def test_what_ignores_sigterm_is_killed_by_stop(sandbox: Sandbox) -> None:
    process = sandbox.spawn("python3", "-c", STUBBORN)
    ready(process)
    began = time.monotonic()
    assert sandbox.stop(grace_seconds=1).state == "stopped"
    assert 1 <= time.monotonic() - began < 15
    sandbox.start()
    assert cloche("exec", "-d", sandbox.id, "--", "sh", "-c", "trap '' TERM; while :; do sleep 1; done").returncode == 0
    began = time.monotonic()
    assert cloche("stop", "--grace", "500ms", sandbox.id).returncode == 0
    assert time.monotonic() - began < 15
    assert sandbox.info().state == "stopped"


def test_what_ignores_sigterm_is_killed_after_its_timeout(sandbox: Sandbox) -> None:
    code = "trap 'echo asked' TERM; echo begun; while :; do sleep 0.1; done"
    done = sandbox.exec("sh", "-c", code, timeout_seconds=0.5)
    assert (done.exit_code, done.limit_hit) == (124, "timeout")
    assert done.stdout.splitlines() == ["begun", "asked"]
    assert 2 <= done.usage.wall_seconds < 15
    line = cloche("exec", "--timeout", "300ms", sandbox.id, "--", "sh", "-c", code)
    assert (line.returncode, line.stdout) == (124, b"begun\nasked\n") and b"timeout" in line.stderr
    assert not [info for info in sandbox.processes() if info.state == "running"]


def test_a_gigabyte_that_nobody_reads_stalls_nobody(sandbox: Sandbox) -> None:
    loud = sandbox.spawn("sh", "-c", f"echo ready >&2; head -c {GIB} /dev/zero; echo last >&2; sleep 1000")
    took: list[float] = []
    while loud.refresh().stdout_bytes < GIB:
        began = time.monotonic()
        assert sandbox.exec("echo", "quick").stdout == "quick\n"
        took.append(time.monotonic() - began)
    assert sorted(took)[len(took) // 2] < 0.5
    stats = sandbox.stats()
    assert stats.memory_bytes is None or stats.memory_bytes < 256 << 20
    loud.kill()
    events = list(sandbox.process(loud.id).output())
    lost = sum(event.lost_bytes for event in events if isinstance(event, Gap) and event.stream == "stdout")
    kept = sum(len(event.data) for event in events if isinstance(event, Output) and event.stream == "stdout")
    assert lost + kept == GIB and lost > 0
    assert b"".join(sandbox.process(loud.id).stderr) == b"ready\nlast\n"


def test_a_follower_who_does_not_read_stalls_only_its_own(sandbox: Sandbox) -> None:
    command = [*CLI, "exec", sandbox.id, "--", "head", "-c", str(GIB), "/dev/zero"]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert follower.stdout is not None
    follower.stdout.read(1)
    for _ in range(10):
        assert sandbox.exec("echo", "quick", timeout_seconds=20).stdout == "quick\n"
    follower.stdout.close()
    assert follower.wait(60) != 0
    until(lambda: all(info.state == "exited" for info in sandbox.processes()), "the command was ended with its reader")


@pytest.fixture
def short_silence(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> float:
    """Streams of this process count as broken after half a second instead of a minute."""
    monkeypatch.setattr(sandbox._transport, "silence_seconds", 0.5)
    return 0.5


def pausable(sandbox: Sandbox) -> None:
    try:
        sandbox.pause()
    except Exception as error:
        pytest.skip(f"this machine cannot pause: {error}")
    sandbox.resume()


def test_a_followed_command_goes_on_after_a_long_pause(sandbox: Sandbox, short_silence: float) -> None:
    pausable(sandbox)
    seen: list[bytes] = []
    begun, broke_off = threading.Event(), threading.Event()

    def note(data: bytes) -> None:
        seen.append(data)
        begun.set()

    results: list[object] = []
    run = threading.Thread(target=lambda: results.append(
        sandbox.exec("sh", "-c", "mkfifo go; echo one; cat go; exit 3", on_stdout=note)))  # fmt: skip
    run.start()
    assert begun.wait(30)
    sandbox.pause()
    other = threading.Timer(4 * short_silence, broke_off.set)
    other.start()
    with pytest.raises(WrongStateError) as caught:
        sandbox.exec("true")
    assert caught.value.details["state"] == "paused" and "resume" in (caught.value.remedy or "")
    assert broke_off.wait(30)
    sandbox.resume()
    sandbox.exec("sh", "-c", "echo two > go", check=True)
    run.join(60)
    (done,) = results
    assert (done.exit_code, done.stdout, b"".join(seen)) == (3, "one\ntwo\n", b"one\ntwo\n")  # type: ignore[attr-defined]


def test_waiting_lasts_over_a_pause(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    pausable(sandbox)
    monkeypatch.setattr("cloche.sdk._sync.process.WAIT_SLICE_SECONDS", 0.2)
    monkeypatch.setattr("cloche.sdk._sync.process.SLOW_SECONDS", 0.2)
    process = sandbox.spawn("sh", "-c", "mkfifo go; cat go; exit 4")
    ended: list[object] = []
    waiter = threading.Thread(target=lambda: ended.append(process.wait()))
    waiter.start()
    sandbox.pause()
    with pytest.raises((TimedOutError, WrongStateError)):
        sandbox.process(process.id)
    waiter.join(1.5)
    assert waiter.is_alive() and not ended
    sandbox.resume()
    sandbox.exec("sh", "-c", "until [ -p go ]; do :; done; echo > go", check=True)
    waiter.join(60)
    assert [info.exit_code for info in ended] == [4]  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["remove", "stop", "remove while paused"])
def test_a_sandbox_that_ends_under_a_followed_command(real_home: Path, how: str) -> None:
    with Sandbox.create() as box:
        client = subprocess.Popen([*CLI, "exec", box.id, "--", "sh", "-c", "echo begun; sleep 1000"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        assert client.stdout is not None
        read_until(client.stdout.fileno(), b"begun\n")
        process = box.process(box.processes()[-1].id)
        events = process.output()
        assert isinstance(next(events), Output)
        if how == "remove while paused":
            pausable(box)
            box.pause()
        if how == "stop":
            box.stop(grace_seconds=0)
        else:
            box.remove()
        try:
            rest = list(events)
            assert how == "stop" and rest[-1].info.signal in (9, 15)
        except SandboxDeadError as error:
            assert error.details["reason"] in ("removed", "stopped", "stopping")
        errors = client.communicate(timeout=60)[1]
        assert client.returncode in (125, 143, 137) and b"Traceback" not in errors


def test_a_terminal_follows_the_size_of_the_real_one(sandbox: Sandbox) -> None:
    controller, terminal = pty.openpty()
    fcntl.ioctl(controller, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))

    def take_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    environ = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
    command = [*CLI, "exec", "-t", sandbox.id, "--", "python3", "-c", SIZES]
    client = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environ,
                              start_new_session=True, preexec_fn=take_terminal)  # fmt: skip
    os.close(terminal)
    read_until(controller, b"size 101 33\r\n")
    for columns, rows in ((80, 24), (200, 60), (1, 1)):
        fcntl.ioctl(controller, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        read_until(controller, f"size {columns} {rows}\r\n".encode())
    os.write(controller, b"\x03")
    assert client.wait(30) == 128 + signal.SIGINT or client.returncode == 1
    os.close(controller)
