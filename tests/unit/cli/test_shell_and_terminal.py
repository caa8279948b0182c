"""What a shell begins with, and what is known of this program's own terminal."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cloche.cli import progress, terminal
from cloche.cli.commands.shell import _LOGIN
from cloche.cli.interrupts import AGAIN_SECONDS, Ended, Watch


def test_sh_where_there_is_no_bash(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    said = subprocess.run(
        ["/bin/sh", "-c", _LOGIN, "sh", "glass"], env={"PATH": str(tmp_path)}, input="echo $0; echo \"$PS1\"\n",
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert said.stdout.splitlines()[0].lstrip("-") == "sh", said


def test_leave_keys_need_three_presses_within_a_second() -> None:
    now, left = [0.0], []
    keys = terminal.LeaveKeys(lambda: left.append(now[0]), lambda: now[0])
    keys.watch(b"\x1d\x1da\x1d")
    assert not left
    keys.watch(b"\x1d\x1d")
    assert left == [0.0]
    keys.watch(b"\x1d")
    now[0] = 0.9
    keys.watch(b"\x1d")
    now[0] = 1.1
    keys.watch(b"\x1d")
    assert left == [0.0]
    now[0] = 1.2
    keys.watch(b"\x1d")
    assert left == [0.0, 1.2]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_alternate_screen_is_noticed_however_it_is_cut(size: int) -> None:
    screen = terminal.ScreenWatch()
    for text, other in ((b"ab\x1b[?1049hcd", True), (b"x" * 20, True), (b"\x1b[?1049l\x1b[?1049h\x1b[?1049l", False)):
        for start in range(0, len(text), size):
            screen.note(text[start : start + size])
        assert (b"\x1b[?1049l" in screen.calm()) is other


def test_what_the_terminal_can_do_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "screen")
    monkeypatch.setenv("COLORTERM", "true\ncolor")
    assert terminal.kind() == {"TERM": "screen"}
    monkeypatch.delenv("TERM")
    assert terminal.kind() == {}


def test_amounts_and_rates() -> None:
    assert [progress.amount(count) for count in (0, 1023, 1536, 5 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "5.0 TiB",
    ]
    now = [0.0]
    meter = progress.Meter("big", 4 << 20, lambda: now[0])
    assert list(meter.counted(iter([b"x" * (1 << 20)] * 2))) == [b"x" * (1 << 20)] * 2
    now[0] = 2.0
    assert str(meter) == "2.0 MiB of 4.0 MiB, 1.0 MiB/s  big"


def test_a_signal_waits_until_it_may_interrupt() -> None:
    watch = Watch()
    watch.note(2, None)
    with pytest.raises(Ended) as ended:
        watch.interruptible(lambda: None)
    assert ended.value.status == 130
    assert watch.interruptible(lambda: 7) == 7


def test_a_signal_interrupts_what_may_be_interrupted_and_then_waits_again() -> None:
    watch = Watch()
    with pytest.raises(Ended):
        watch.interruptible(lambda: watch.note(15, None))
    watch.note(15, None)
    with pytest.raises(Ended):
        watch.note(15, None)


def test_a_signal_that_python_drops_is_raised_once_more() -> None:
    alarms: list[float] = []
    watch = Watch(alarms.append)

    class Finalized:
        def __del__(self) -> None:
            watch.note(2, None)

    def work() -> None:
        Finalized()
        assert alarms == [AGAIN_SECONDS]
        watch.again(14, None)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Ended) as ended:
        patch.setattr(sys, "unraisablehook", lambda dropped: None)
        watch.interruptible(work)
    assert ended.value.status == 130 and alarms == [AGAIN_SECONDS, 0]
    watch.again(14, None)


def test_a_line_of_progress_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    drawn = threading.Event()
    monkeypatch.setattr(progress, "wanted", lambda: True)
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_columns", lambda: 10)
    monkeypatch.setattr(progress, "_write", lambda text: (written.append(text), drawn.set()))
    with progress.shown(lambda: "far \x1b[31m too long"):
        assert drawn.wait(30)
    assert written[0] == "\rfar \\x1b[\x1b[K" and written[-1] == "\r\x1b[K"


def test_what_takes_long_is_explained_after_a_while() -> None:
    assert progress.waited("making", 2.4, "once") == "making … 2 s"
    assert progress.waited("making", 8.2, "once") == "making … 8 s (once)"
    assert progress.waited("making", 8.2) == "making … 8 s"


def test_what_is_over_soon_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(progress, "wanted", lambda: True)
    monkeypatch.setattr(progress, "_write", written.append)
    with progress.waiting("nothing"):
        pass
    assert not written
