"""What the multiplexer says, byte by byte (guest/README.md, "Multiplexer, version 1"), and its queue towards the pipe.

Large payloads are kept as they were given and small pieces are joined, so that one gathering write carries many frames
and nothing is copied twice.
"""

from __future__ import annotations

import itertools
import struct
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

Bytes: TypeAlias = bytes | bytearray | memoryview

#: ends whatever frame the host before had begun: 15 bytes of a header, the largest payload, its tag, and one more
HELLO_ZEROS = 65_556
HELLO = b"CLOCHE-MUX/1\r\n\0\0"
ANSWER = b"cloche-mux/1\r\n\0\0"
EPOCH_BYTES = 16
HEADER_BYTES = 16
TAG_BYTES = 4
MAX_PAYLOAD_BYTES = 65_536
WINDOW_BYTES = 256 << 10
MAX_WINDOW_BYTES = (1 << 32) - 1
MAX_STREAM = (1 << 32) - 1
MAX_STREAMS = 1024

OPEN, DATA, WINDOW, FIN, RESET, PING, PONG = range(1, 8)
CANCELLED, REFUSED, PROTOCOL = range(3)

#: the first word is the kind and three zero bytes
_HEADER = struct.Struct(">IIII")
#: below this a copy is cheaper than one more piece of a gathering write
_SMALL_BYTES = 2048
_MAX_PIECES = 64

read_header: Callable[[Bytes, int], tuple[int, int, int, int]] = _HEADER.unpack_from


def header(kind: int, stream: int, value: int, tag: int) -> bytes:
    return _HEADER.pack(kind << 24, stream, value, tag)


class MuxError(Exception):
    """What came, or was asked for, breaks the rules of the multiplexer; from the other end it ends the epoch."""


class Began(NamedTuple):
    """A new epoch: every stream of the one before is gone."""


class Ended(NamedTuple):
    """The epoch broke. A guest waits for the next hello; a host connects again."""

    error: MuxError


class Opened(NamedTuple):
    """The other end opened a stream."""

    stream: int


class Data(NamedTuple):
    """The payload may be a view of what was received: it holds until the next bytes are."""

    stream: int
    payload: bytes | memoryview


class Writable(NamedTuple):
    """More may be sent on this stream."""

    stream: int


class Finished(NamedTuple):
    """The other end sends nothing more on this stream."""

    stream: int


class Reset(NamedTuple):
    """The other end gave this stream up in both directions."""

    stream: int
    reason: int


class Pong(NamedTuple):
    value: int


Event: TypeAlias = Began | Ended | Opened | Data | Writable | Finished | Reset | Pong


class Outgoing:
    """Bytes on their way to the pipe, first in first out; `waiting` is how many."""

    def __init__(self) -> None:
        self.waiting = 0
        self._pieces: deque[Bytes] = deque()
        self._growing: bytearray | None = None

    def put(self, data: Bytes) -> None:
        """`data` may be kept: it must not change."""
        self.waiting += len(data)
        if len(data) > _SMALL_BYTES:
            self._growing = None
            self._pieces.append(data)
            return
        if self._growing is None:
            self._growing = bytearray()
            self._pieces.append(self._growing)
        self._growing += data

    def pieces(self) -> list[Bytes]:
        """The next ones, for one gathering write. Let go of them before anything else is put."""
        return list(itertools.islice(self._pieces, _MAX_PIECES))

    def sent(self, count: int) -> None:
        """The pipe took the first `count` bytes."""
        self.waiting -= count
        while count:
            first = self._pieces.popleft()
            if first is self._growing:
                self._growing = None
            if count < len(first):
                self._pieces.appendleft(memoryview(first)[count:])
                return
            count -= len(first)

    def clear(self) -> None:
        self.waiting, self._growing = 0, None
        self._pieces.clear()
