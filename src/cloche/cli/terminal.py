"""This program's own terminal while it belongs to a process in a sandbox: raw, in step with its size, and put back
however that ends."""

from __future__ import annotations

import os
import queue
import signal
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from cloche.model.errors import ClocheError, InvalidError
from cloche.model.process import PtySize
from cloche.sdk._sync.process import Process

#: Ctrl-], as in machinectl: nobody types it three times in a second, and ssh does not take it
LEAVE_KEY = 0x1D
LEAVE_PRESSES = 3
LEAVE_SECONDS = 1.0

MAX_SIZE = 0xFFFF
#: what a full-screen program may have left: colours, a hidden cursor, bracketed paste, mouse reports, keypad
_CALM = b"\x1b[0m\x1b[?25h\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1l\x1b>"
OTHER_SCREEN, OWN_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"
_PASSED = ("TERM", "COLORTERM")


def require(remedy: str = "leave -t out; -i alone passes stdin on") -> None:
    """Raise InvalidError when there is no terminal to be joined."""
    if not (os.isatty(0) and os.isatty(1)):
        raise InvalidError("this needs a terminal on stdin and stdout", remedy=remedy)


def size() -> PtySize:
    """Of the terminal itself, whatever COLUMNS and LINES say of the one in which they were set."""
    for descriptor in (1, 0, 2):
        with suppress(OSError):
            found = os.get_terminal_size(descriptor)
            if found.lines > 0 and found.columns > 0:
                return PtySize(rows=min(found.lines, MAX_SIZE), cols=min(found.columns, MAX_SIZE))
    return PtySize()


def is_dumb() -> bool:
    """Whether it understands nothing but lines of text."""
    return os.environ.get("TERM", "dumb") == "dumb"


def kind() -> dict[str, str]:
    """The variables by which programs inside know what this terminal can do."""
    return {name: value for name in _PASSED if (value := os.environ.get(name, "")) and value.isprintable()}


class ScreenWatch:
    """Remembers whether the output has switched to the alternate screen, which whoever is cut off cannot leave."""

    def __init__(self) -> None:
        self._other = False
        self._tail = b""

    def note(self, data: bytes) -> None:
        seen = self._tail + data
        entered, left = seen.rfind(OTHER_SCREEN), seen.rfind(OWN_SCREEN)
        if entered != left:
            self._other = entered > left
        self._tail = seen[-(len(OTHER_SCREEN) - 1) :]

    @property
    def is_other(self) -> bool:
        """Whether what is shown now is the alternate screen."""
        return self._other

    def calm(self) -> bytes:
        """What brings the terminal back to where a shell expects it."""
        return (OWN_SCREEN if self._other else b"") + _CALM


@contextmanager
def raw(screen: ScreenWatch) -> Iterator[None]:
    """Every key goes to the process; the terminal is as it was afterwards, however this is left, and while this
    program is stopped."""
    before = termios.tcgetattr(0)

    def stopped(number: int, frame: FrameType | None) -> None:
        _put_back(before, screen)
        os.kill(os.getpid(), signal.SIGSTOP)
        tty.setraw(0, termios.TCSANOW)

    handler = signal.signal(signal.SIGTSTP, stopped)
    try:
        tty.setraw(0, termios.TCSANOW)
        yield
    finally:
        _put_back(before, screen)
        signal.signal(signal.SIGTSTP, handler)


def _put_back(before: list[Any], screen: ScreenWatch) -> None:
    # TCSANOW: a terminal that nobody reads never drains. One that is gone needs nothing any more
    with suppress(termios.error, OSError):
        termios.tcsetattr(0, termios.TCSANOW, before)
    if is_dumb():
        return
    with suppress(OSError):
        blocking = os.get_blocking(1)
        os.set_blocking(1, False)
        with suppress(OSError):
            os.write(1, screen.calm())
        os.set_blocking(1, blocking)


@contextmanager
def resizing(process: Process) -> Iterator[None]:
    """The process's terminal follows the size of this one; of many changes in a row only the last is told."""
    changed: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def note(number: int, frame: FrameType | None) -> None:
        changed.put(True)

    before = signal.signal(signal.SIGWINCH, note)
    threading.Thread(target=_resize, args=(process, changed), daemon=True, name="cloche-size").start()
    changed.put(True)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
        changed.put(False)


def _resize(process: Process, changed: queue.SimpleQueue[bool]) -> None:
    told: PtySize | None = None
    while _latest(changed):
        now = size()
        if now == told:
            continue
        with suppress(ClocheError, OSError):
            process.resize(now.rows, now.cols)
            told = now


def _latest(changed: queue.SimpleQueue[bool]) -> bool:
    """Wait for a change and take all that have come; False: it is over."""
    more = changed.get()
    while more and not changed.empty():
        more = changed.get()
    return more


class LeaveKeys:
    """Looks for the keys that leave a process which does not answer; they are passed on like all others."""

    def __init__(self, leave: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._leave = leave
        self._clock = clock
        self._presses: list[float] = []

    def watch(self, typed: bytes) -> None:
        for key in typed:
            self._presses = [*self._presses, self._clock()][-LEAVE_PRESSES:] if key == LEAVE_KEY else []
            if len(self._presses) == LEAVE_PRESSES and self._presses[-1] - self._presses[0] <= LEAVE_SECONDS:
                self._presses = []
                self._leave()
