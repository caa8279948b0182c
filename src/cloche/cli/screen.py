"""The whole terminal for one program: keys one by one, lines where they belong, and everything as it was afterwards."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, Self

from cloche.cli.attach import write_all

#: other screen, no cursor, no wrapping: what is wider than it seems cannot reach the next line
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
#: terminals that know this show a frame at once and whole
_TOGETHER, _SHOW = "\x1b[?2026h", "\x1b[?2026l"
#: after an ESC that begins no sequence within this time, it was the key itself
ESCAPE_SECONDS = 0.05
#: what goes on for longer is noise
LONGEST_SEQUENCE = 32
_NAMES = {
    "A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end", "1~": "home", "4~": "end",
    "5~": "page up", "6~": "page down", "3~": "delete", "7~": "home", "8~": "end",
}  # fmt: skip
_CONTROLS = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\t": "tab", "\x03": "ctrl-c",
             "\x0c": "ctrl-l", "\x15": "ctrl-u", "\x04": "ctrl-d"}  # fmt: skip


def keys(text: str) -> tuple[list[str], str]:
    """Names of the keys that were pressed ("up", "enter", "escape", "a"), and what may be the beginning of one."""
    found: list[str] = []
    while text:
        if text[0] != "\x1b":
            found.append(_CONTROLS.get(text[0], text[0] if text[0].isprintable() else ""))
            text = text[1:]
            continue
        name, rest = _sequence(text)
        if name is None:
            break
        found.append(name)
        text = rest
    return [key for key in found if key], text


def _sequence(text: str) -> tuple[str | None, str]:
    """The key whose sequence `text` begins with, and what follows it. "": one that nobody asks for; None: the sequence
    is not complete."""
    if len(text) == 1:
        return None, text
    if text[1] not in "[O":
        return "escape", text[1:]
    for at in range(2, len(text)):
        if "@" <= text[at] <= "~":
            return _name(text[2 : at + 1]), text[at + 1 :]
    return (None, text) if len(text) < LONGEST_SEQUENCE else ("", "")


def _name(sequence: str) -> str:
    # "1;5A" is up together with Ctrl, which means something else than up
    with_modifier = sequence.startswith("1")
    return _NAMES.get(sequence, "" if with_modifier else _NAMES.get(sequence[-1], ""))


class Screen:
    """`with Screen() as screen:`; standard input and output must be one terminal. Whatever ends the block, also an
    exception or a signal that raises one, the terminal is put back."""

    def __init__(self) -> None:
        self._drawn: list[str] = []
        self._size = (0, 0)
        self._rest = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(0)
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._resized: Callable[[int, FrameType | None], object] | int | None = signal.signal(
            signal.SIGWINCH, self._note
        )
        try:
            termios.tcsetattr(0, termios.TCSADRAIN, _one_by_one(self._before))
            _write(_ENTER)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with contextlib.suppress(OSError):
                _write(_LEAVE)
        finally:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSAFLUSH, self._before)
            signal.signal(signal.SIGWINCH, self._resized)
            waker, self._waker = self._waker, -1
            os.close(waker)
            os.close(self._woken)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            found = os.get_terminal_size(1)
        except OSError:
            return 80, 24
        return (found.columns or 80, found.lines or 24)

    def draw(self, lines: Sequence[str], size: tuple[int, int]) -> None:
        """Lines for a screen of this size; only those that changed are sent."""
        out = []
        if size != self._size:
            self._size, self._drawn = size, []
            out.append("\x1b[0m\x1b[2J")
        shown = [*lines[: size[1]], *[""] * (size[1] - len(lines))]
        before = self._drawn or [""] * size[1]
        for row, (line, old) in enumerate(zip(shown, before, strict=True), 1):
            if line != old:
                # cleared before and not after: behind a full line the cursor still stands on its last cell
                out.append(f"\x1b[{row};1H\x1b[0m\x1b[K{line}")
        self._drawn = shown
        if out:
            _write(f"{_TOGETHER}{''.join(out)}\x1b[0m{_SHOW}")

    def again(self) -> None:
        """Draw everything anew the next time."""
        self._size = (0, 0)

    def wake(self) -> None:
        """Let `wait` return; from any thread or a signal handler."""
        with contextlib.suppress(OSError):
            os.write(self._waker, b"x")

    def wait(self, seconds: float | None) -> list[str]:
        """Keys; none when woken, resized, or the time is over. Raises EOFError when the terminal is gone."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self._rest:
                left = ESCAPE_SECONDS if left is None else min(left, ESCAPE_SECONDS)
            ready, _, _ = select.select([0, self._woken], [], [], left)
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
            if 0 in ready:
                return self._read()
            if self._rest:
                pressed, _ = keys(self._rest[1:])
                self._rest = ""
                return ["escape", *pressed]
            return []

    def _read(self) -> list[str]:
        data = os.read(0, 4096)
        if not data:
            raise EOFError
        pressed, self._rest = keys(self._rest + self._decode.decode(data))
        return pressed

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wake()


def _one_by_one(mode: list[Any]) -> list[Any]:
    """Keys as they come and unseen. Ctrl-C still interrupts; what stops or quits a program does not work, as it would
    leave the terminal like this."""
    changed = [*mode[:6], list(mode[6])]
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    for number in (termios.VSUSP, termios.VQUIT):
        changed[6][number] = b"\0"
    return changed


def _write(text: str) -> None:
    sys.stdout.flush()
    write_all(1, text.encode("utf-8", "backslashreplace"))
