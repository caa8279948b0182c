"""The node's frame stream (guest/README.md, "Frame"): bytes in, frames out, no I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from cloche.model.errors import GuestError

STARTED: Final = 1
STDOUT: Final = 2
STDERR: Final = 3
GAP: Final = 4
EXITED: Final = 5
KEEPALIVE: Final = 6
MAX_PAYLOAD_BYTES = 256 << 10

_HEADER = struct.Struct(">B3xIQ")
_GAP = struct.Struct(">BQ")


class Frame(NamedTuple):
    """`offset` is that of the payload's first byte in its stream; in a GAP, of the first byte still there."""

    kind: int
    offset: int
    payload: bytes


class FrameDecoder:
    """Never holds more than one frame that is not complete. Raises GuestError for what no frame can be."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes; take all of them before feeding more."""
        self._buffer += data
        position = 0
        while (frame := self._at(position)) is not None:
            position += _HEADER.size + len(frame.payload)
            yield frame
        del self._buffer[:position]

    def _at(self, position: int) -> Frame | None:
        if len(self._buffer) - position < _HEADER.size:
            return None
        kind, length, offset = _HEADER.unpack_from(self._buffer, position)
        if not STARTED <= kind <= KEEPALIVE or length > MAX_PAYLOAD_BYTES:
            raise GuestError(f"not a frame: kind {kind}, {length} bytes")
        begin = position + _HEADER.size
        if len(self._buffer) - begin < length:
            return None
        return Frame(kind, offset, bytes(memoryview(self._buffer)[begin : begin + length]))


def gap(payload: bytes) -> tuple[int, int]:
    """A GAP's payload → stream (STDOUT or STDERR) and count of lost bytes. Raises GuestError."""
    if len(payload) != _GAP.size or payload[0] not in (STDOUT, STDERR):
        raise GuestError("an unreadable gap in the output")
    stream, lost = _GAP.unpack(payload)
    return stream, lost
