"""`cloche shell` on a real terminal, and that the terminal is put back whatever ends it."""

from __future__ import annotations

import os
import signal
import termios
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.bad_luck import cloche, kill_node, until
from tests.integration.terminal_program import TerminalProgram

#: a prompt in the middle of what is typed would be taken for the answer, so what is asked for is computed inside
READY = "echo rea''dy\n"


def opened(sandbox: Sandbox, **environ: str | None) -> TerminalProgram:
    """A shell that answers."""
    shell = TerminalProgram("shell", sandbox.id, **environ)
    shell.type(READY)
    shell.until("ready\r\n")
    return shell


def nothing_runs(sandbox: Sandbox) -> bool:
    return all(process.state == "exited" for process in sandbox.processes())


def test_a_login_shell_with_its_own_status(sandbox: Sandbox) -> None:
    with opened(sandbox, TERM="screen", COLORTERM="truecolor") as shell:
        assert not shell.is_as_before
        shell.type('echo "[$TERM $COLORTERM]"; shopt -q login_shell && echo log""in; tty; pwd; exit 7\n')
        shell.until("[screen truecolor]\r\n")
        shell.until("login\r\n")
        shell.until("/dev/pts/")
        shell.until("/home/user\r\n")
        assert shell.ended() == 7
        assert shell.is_as_before
    assert nothing_runs(sandbox)


def test_the_prompt_says_where_one_is(real_home: Path) -> None:
    with Sandbox.create(name="glass") as made, TerminalProgram("shell", made.id) as shell:
        shell.until("(glass) ~ $ ")
        shell.type("exit\n")
        assert shell.ended() == 0


def test_keys_go_inside(sandbox: Sandbox) -> None:
    with opened(sandbox) as shell:
        shell.type("sh -c 'echo be''gun; exec sleep 1000'\n")
        shell.until("begun\r\n")
        shell.type(b"\x1a")
        shell.until("Stopped")
        shell.until("$ ")
        shell.type("fg\n")
        shell.until("fg\r\n")
        shell.until("sleep 1000'\r\n")
        shell.type(b"\x03")
        shell.until("$ ")
        shell.type("echo status $?\n")
        shell.until("status 130\r\n")
        shell.type("sh -c 'trap \"echo qu''it; exit 9\" QUIT; echo tra''pped; while :; do sleep 0.01; done'\n")
        shell.until("trapped\r\n")
        shell.type(b"\x1c")
        shell.until("quit\r\n")
        shell.until("$ ")
        shell.type(b"\x04")
        assert shell.ended() == 9
        assert shell.is_as_before


def test_another_command_than_a_shell(sandbox: Sandbox) -> None:
    with TerminalProgram("shell", sandbox.id, "sh", "-c", "test -t 0 && echo a terminal; exit 3") as shell:
        shell.until("a terminal\r\n")
        assert shell.ended() == 3


def test_a_thousand_resizes(sandbox: Sandbox) -> None:
    with opened(sandbox) as shell:
        for number in range(1000):
            shell.resize(20 + number % 7, 40 + number % 11)
        shell.resize(33, 99)
        shell.type("until [ \"$(stty size)\" = '33 99' ]; do :; done; echo fit''s\n")
        shell.until("fits\r\n")
        shell.type("exit\n")
        assert shell.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_puts_the_terminal_back_and_ends_the_shell(sandbox: Sandbox, number: signal.Signals) -> None:
    with opened(sandbox) as shell:
        shell.send(number)
        assert shell.ended() == 128 + number
        assert shell.is_as_before
        assert b"Traceback" not in shell.seen
    until(lambda: nothing_runs(sandbox), "the shell has ended")


def test_a_full_screen_program_that_is_cut_off_leaves_a_usable_terminal(sandbox: Sandbox) -> None:
    with opened(sandbox) as shell:
        shell.type("printf '\\033[?1049h\\033[?25l'; echo en''tered\n")
        shell.until("entered")
        shell.send(signal.SIGTERM)
        assert shell.ended() == 143
        assert b"\x1b[?1049l" in shell.seen and b"\x1b[?25h" in shell.seen


def test_the_keys_that_leave_a_hung_shell(sandbox: Sandbox) -> None:
    with opened(sandbox) as shell:
        shell.type("trap '' INT HUP TERM QUIT TSTP; stty raw -echo; echo hang''ing; while :; do sleep 1; done\n")
        shell.until("hanging")
        shell.type(b"\x03\x1d\x1d\x03\x1d\x1d\x1d")
        assert shell.ended() == 143
        assert shell.is_as_before
    until(lambda: nothing_runs(sandbox), "the shell has ended")


def test_the_sandbox_goes_away_under_a_shell(sandbox: Sandbox) -> None:
    with opened(sandbox) as shell:
        sandbox.remove()
        assert shell.ended() != 0
        assert shell.is_as_before
        assert b"Traceback" not in shell.seen


def test_the_node_dies_under_a_shell(sandbox: Sandbox, real_home: Path) -> None:
    with opened(sandbox) as shell:
        kill_node(real_home)
        shell.type("echo still $((40 + 2))\n")
        shell.until("still 42\r\n")
        shell.type("exit 5\n")
        assert shell.ended() == 5
        assert shell.is_as_before


def test_stopped_and_continued_it_gives_the_terminal_back_meanwhile(sandbox: Sandbox) -> None:
    with opened(sandbox) as shell:
        shell.send(signal.SIGTSTP)
        _, status = os.waitpid(shell.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status) and shell.is_as_before
        shell.send(signal.SIGCONT)
        until(lambda: not shell.is_as_before, "raw again")
        shell.type("exit 4\n")
        assert shell.ended() == 4
        assert termios.tcgetattr(shell.terminal) == shell.before


def test_without_a_sandbox_it_makes_one_and_removes_it(real_home: Path) -> None:
    before = {info.id for info in Sandbox.list()}
    with TerminalProgram("shell", "--pids", "64") as shell:
        shell.until("it is removed when you leave\r\n")
        shell.type(READY)
        shell.until("ready\r\n")
        shell.type("exit 6\n")
        assert shell.ended() == 6
    assert {info.id for info in Sandbox.list()} == before


def test_what_cannot_be_is_said(sandbox: Sandbox) -> None:
    without = cloche("shell", sandbox.id)
    assert without.returncode == 125 and b"terminal" in without.stderr
    for argv, said in (
        (("shell", "nobody"), b"nobody"),
        (("shell", "--memory", "64m", sandbox.id), b"--memory describes a new sandbox"),
    ):
        with TerminalProgram(*argv) as shell:
            assert shell.ended() == 125
            assert said in shell.seen and shell.is_as_before
