"""Who has the terminal while a command runs on it: the command, or a question of Cloche's own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: an escape sequence that is no whole one yet, or the beginning of a letter of UTF-8
_LONGEST_SEQUENCE = 64
#: how long the rest of such a beginning is waited for
REST_SECONDS = 0.3
CTRL_C = b"\x03"


class Gate:
    """The command's output passes by `write`, and what is typed by `typed`. A question takes both away: the output
    waits meanwhile, nothing of it is lost."""

    def __init__(self) -> None:
        self._output = threading.Lock()
        self._keys: queue.Queue[bytes] | None = None
        self._tail = b""
        self._closed = False

    def write(self, data: bytes, show: Callable[[bytes], None]) -> None:
        """Let the command show something; waits while there is a question."""
        with self._output:
            self._tail = (self._tail + data)[-_LONGEST_SEQUENCE:]
            show(data)

    @property
    def is_in_line(self) -> bool:
        """Whether the last that was shown has not ended its line."""
        return self._tail != b"" and not self._tail.endswith(b"\n")

    def typed(self, piece: bytes) -> bool:
        """Whether this piece of what was typed is for a question, and not for the command."""
        keys = self._keys
        if keys is not None:
            keys.put(piece)
        return keys is not None

    @contextmanager
    def taken(self) -> Iterator[queue.Queue[bytes] | None]:
        """The terminal for a question → what is typed meanwhile, with an empty piece when the command has ended. None:
        it has ended before."""
        self._between_sequences()
        with self._output:
            # before the look at `_closed`, so that `close` finds either this or nobody
            keys = self._keys = queue.Queue()
            try:
                yield None if self._closed else keys
            finally:
                self._keys = None
                # a question leaves the terminal at the beginning of a line
                self._tail = b""

    def interrupt(self) -> None:
        """Ctrl-C on a terminal that keeps it for itself."""
        self.typed(CTRL_C)

    def close(self) -> None:
        """The command has ended: a question that stands is taken back, and no other comes."""
        self._closed = True
        self.typed(b"")
        with self._output:
            pass

    def _between_sequences(self) -> None:
        """A question that cut a sequence in two would turn its rest into text."""
        until = time.monotonic() + REST_SECONDS
        while is_begun(self._tail) and time.monotonic() < until:
            time.sleep(0.01)


def is_begun(shown: bytes) -> bool:
    """Whether the output ends inside an escape sequence or inside a letter of UTF-8."""
    at = shown.rfind(b"\x1b")
    if at >= 0 and not _is_whole(shown[at:]):
        return True
    return any(_letter_bytes(byte) > back for back, byte in enumerate(reversed(shown[-3:]), 1))


def _letter_bytes(first: int) -> int:
    """How long the letter of UTF-8 is that begins with this byte; 0: none begins with it."""
    return 4 if first >= 0xF0 else 3 if first >= 0xE0 else 2 if first >= 0xC0 else 0


def _is_whole(sequence: bytes) -> bool:
    """Of one that begins with ESC: CSI ends with a letter or so, OSC and its kin with BEL or ESC \\."""
    if len(sequence) < 2:
        return False
    if sequence[1:2] == b"[":
        return any(0x40 <= byte <= 0x7E for byte in sequence[2:])
    if sequence[1:2] in b"]PX^_":
        return b"\x07" in sequence
    if 0x20 <= sequence[1] <= 0x2F:
        return len(sequence) > 2
    return True
