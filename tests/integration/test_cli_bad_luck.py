"""The command line under bad luck: streams that are closed, full or broken, odd terminals, and Ctrl-C at any moment."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.bad_luck import CLI, cloche, read_until, until
from tests.integration.terminal_program import TerminalProgram

PROGRAM = f"{sys.executable} -m cloche.cli"
#: moments after a start at which a signal comes; a whole command takes about 0.2 s
DELAYS = [number * 0.012 for number in range(20)]
NAME = "n\u00e4me"


def in_bash(line: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["bash", "-c", line.replace("cloche", PROGRAM)], capture_output=True, timeout=100)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("cloche ls | head -0", 141),
        ("cloche --help | head -0", 141),
        ("cloche exec BOX -- yes | head -1", 141),
        ("cloche run -- yes | head -1", 141),
        ("cloche logs BOX | head -0", 141),
        ("cloche ls <&-", 0),
        ("cloche ls >&-", 125),
        ("cloche ls 2>&-", 0),
        ("cloche nope <&- >&- 2>&-", 125),
        ("cloche ls > /dev/full", 125),
        ("cloche --version > /dev/full", 125),
        ("cloche exec BOX -- echo hi > /dev/full", 125),
        ("cloche exec BOX -- echo hi >&-", 125),
        ("cloche exec BOX -- true >&-", 0),
        ("cloche exec BOX -- sh -c 'echo hi; exit 3' 2>&-", 3),
        ("cloche exec -i BOX -- cat <&-", 0),
        ("cloche exec nobody x 2>/dev/full", 125),
        ("cloche run -- sh -c 'exit 4' <&- 2>&-", 4),
        ("cloche cp BOX:/etc/hostname - >&-", 125),
        ("cloche code BOX <&-", 0),
    ],
)
def test_streams_that_are_closed_full_or_broken(sandbox: Sandbox, line: str, status: int) -> None:
    sandbox.exec("echo", "something to show")
    done = in_bash(f"{line.replace('BOX', sandbox.id)}; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == status, done
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr
    if status in (0, 3, 4, 141):
        assert not done.stderr


def test_nothing_runs_on_when_the_output_cannot_be_written(sandbox: Sandbox) -> None:
    in_bash(f"cloche exec {sandbox.id} -- sh -c 'while :; do echo x; done' > /dev/full")
    until(lambda: all(process.state == "exited" for process in sandbox.processes()), "it was killed")


def test_a_pipe_that_does_not_block(sandbox: Sandbox) -> None:
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    with subprocess.Popen([*CLI, "exec", sandbox.id, "--", "seq", "200000"], stdout=writable) as client:
        os.close(writable)
        seen = b""
        while select.select([readable], [], [], 60)[0] and (part := os.read(readable, 4096)):
            seen += part
    os.close(readable)
    assert client.returncode == 0
    assert seen == b"".join(b"%d\n" % number for number in range(1, 200001))


@pytest.mark.parametrize(
    "environ",
    [
        {"TERM": "dumb"}, {"TERM": None}, {"TERM": "no-such-terminal"}, {"LANG": "C", "LC_ALL": "C"}, {"NO_COLOR": "1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"CLICOLOR_FORCE": "1"}, {"COLUMNS": "3"},
    ],
)  # fmt: skip
def test_odd_terminals(sandbox: Sandbox, environ: dict[str, str | None]) -> None:
    for argv in (("ls",), ("inspect", sandbox.id), ("--help",), ("run", "--help"), ("doctor",)):
        with TerminalProgram(*argv, cols=20, **environ) as shown:
            assert shown.ended() == 0, (argv, shown.seen)
            assert b"Traceback" not in shown.seen
            if environ.get("TERM", "") in (None, "dumb"):
                assert b"\x1b" not in shown.seen, argv
    with TerminalProgram("exec", "-it", sandbox.id, "--", "sh", "-c", "stty size; exit 5", **environ, cols=20) as shown:
        shown.until("24 20\r\n")
        assert shown.ended() == 5 and shown.is_as_before


@pytest.mark.parametrize(
    "locale", [{}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_names_that_are_not_ascii(sandbox: Sandbox, tmp_path: Path, locale: dict[str, str]) -> None:
    place = os.fsencode(tmp_path) + b"/" + NAME.encode()
    with open(place, "wb") as file:
        file.write(b"x")
    target = f"{sandbox.id}:/tmp/".encode() + NAME.encode()
    assert cloche("cp", place, target, **locale).returncode == 0
    said = cloche("exec", sandbox.id, "--", "ls", b"/tmp/" + NAME.encode(), **locale)
    assert said.stdout == b"/tmp/" + NAME.encode() + b"\n"
    missing = cloche("cp", target + b"2", ".", **locale)
    assert missing.returncode == 125 and b"Traceback" not in missing.stderr and b"tmp/n" in missing.stderr


def ended_silently(client: subprocess.Popen[bytes], wanted: set[int]) -> None:
    _, said = client.communicate(timeout=100)
    # -2: before the program could do anything about it
    assert client.returncode in wanted | {130, -signal.SIGINT}, (client.returncode, said)
    assert b"Traceback" not in said and b"Exception" not in said and b"unexpected" not in said, said


def begun(*argv: str) -> subprocess.Popen[bytes]:
    """A command whose interpreter is up; what Python does before that is Python's."""
    ready = "import os; os.write(1, b'up\\n'); import runpy; runpy.run_module('cloche.cli', run_name='__main__')"
    client = subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal(2, signal.SIG_DFL); {ready}", *argv],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert client.stdout is not None
    read_until(client.stdout.fileno(), b"up\n")
    return client


@pytest.mark.slow
@pytest.mark.parametrize("delay", DELAYS)
def test_ctrl_c_at_any_moment(real_home: Path, sandbox: Sandbox, tmp_path: Path, delay: float) -> None:
    sandbox.exec("sh", "-c", "head -c 20M /dev/zero > big")
    for argv in (
        ("run", "--", "sleep", "1000"), ("run", "--json", "--", "sleep", "1000"), ("run", "--", "true"),
        ("exec", sandbox.id, "--", "sleep", "1000"), ("exec", "--json", sandbox.id, "--", "sleep", "1000"),
        ("exec", sandbox.id, "--", "true"), ("cp", f"{sandbox.id}:big", str(tmp_path)),
        ("code", "-c", "import time; time.sleep(1000)"), ("ls",),
    ):  # fmt: skip
        client = begun(*argv)
        time.sleep(delay)
        client.send_signal(signal.SIGINT)
        if "sleep" in argv:
            # what is handed to a command that has only just begun may come before it is one that can be interrupted
            ended_silently(client, set())
        else:
            ended_silently(client, {0})
    assert [info.id for info in Sandbox.list()] == [sandbox.id]
    until(lambda: all(process.state == "exited" for process in sandbox.processes()), "nothing runs on")
    assert set(os.listdir(tmp_path)) <= {"big"}
    if (tmp_path / "big").exists():
        assert (tmp_path / "big").stat().st_size == 20 << 20


@pytest.mark.slow
@pytest.mark.parametrize("delay", DELAYS[::3])
def test_a_terminal_is_put_back_at_any_moment(real_home: Path, delay: float) -> None:
    with TerminalProgram("shell") as shell:
        shell.until("it is removed when you leave")
        time.sleep(delay)
        shell.send(signal.SIGTERM)
        assert shell.ended() == 143
        assert shell.is_as_before and b"Traceback" not in shell.seen
    assert not [info for info in Sandbox.list() if "cloche.run" in info.labels]
