"""The frames that carry a process's life and output (guest/README.md, "Frame"). Bytes in, frames out, no I/O.

What is decoded comes from inside a sandbox: every length, kind and offset is checked before it is used, and the
decoder never holds more than one frame that is not complete.
"""

from __future__ import annotations

import struct
from typing import Final, Literal, NamedTuple, cast

from cloche.guest_api import text
from cloche.model.errors import GuestError
from cloche.model.process import ProcessInfo

Kind = Literal[1, 2, 3, 4, 5, 6]
StreamKind = Literal[2, 3]

STARTED: Final = 1
STDOUT: Final = 2
STDERR: Final = 3
GAP: Final = 4
EXITED: Final = 5
KEEPALIVE: Final = 6

MAX_PAYLOAD_BYTES = 256 << 10
MAX_OFFSET = (1 << 64) - 1
CONTENT_TYPE = "application/vnd.cloche.frames"

_HEADER = struct.Struct(">B3sIQ")
_GAP = struct.Struct(">BQ")


class Gap(NamedTuple):
    """`lost` bytes of `stream` (2 stdout, 3 stderr) were overwritten before anybody read them."""

    stream: StreamKind
    lost: int


class Frame(NamedTuple):
    """`offset` is that of the payload's first byte in its stream; in a GAP, of the first byte still there."""

    kind: Kind
    offset: int
    payload: bytes

    def process(self) -> ProcessInfo:
        """What STARTED and EXITED carry. Raises GuestError."""
        return text.decode(self.payload, ProcessInfo)

    def gap(self) -> Gap:
        """What GAP carries. Raises GuestError."""
        if self.kind != GAP or len(self.payload) != _GAP.size:
            raise GuestError(f"a frame of kind {self.kind} with {len(self.payload)} bytes is no gap")
        stream, lost = _GAP.unpack(self.payload)
        if stream not in (STDOUT, STDERR):
            raise GuestError(f"a gap in stream {stream}: there are 2 (stdout) and 3 (stderr)")
        return Gap(stream, lost)


def encode(frame: Frame) -> bytes:
    if len(frame.payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload of {len(frame.payload)} bytes; at most {MAX_PAYLOAD_BYTES}")
    return _HEADER.pack(frame.kind, b"\0\0\0", len(frame.payload), frame.offset) + frame.payload


def encode_process(kind: Literal[1, 5], info: ProcessInfo) -> bytes:
    return encode(Frame(kind, 0, text.encode(info)))


def encode_gap(stream: StreamKind, available: int, lost: int) -> bytes:
    return encode(Frame(GAP, available, _GAP.pack(stream, lost)))


class FrameDecoder:
    """Feed bytes as they come; take whole frames. Raises GuestError at the first thing the wire does not allow.

    `stdout_offset`, `stderr_offset`: where the streams must begin; None or negative (counted from the end): anywhere.
    """

    def __init__(self, *, stdout_offset: int | None = None, stderr_offset: int | None = None) -> None:
        self._buffer = bytearray()
        self._next: dict[int, int | None] = {STDOUT: _start(stdout_offset), STDERR: _start(stderr_offset)}
        self._seen = 0
        self.exited = False

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        self._buffer += data
        position, frames = 0, []
        while (frame := self._at(position)) is not None:
            position += _HEADER.size + len(frame.payload)
            self._check(frame)
            frames.append(frame)
        del self._buffer[:position]
        return frames

    def finish(self) -> None:
        """Call at the end of the bytes. Raises GuestError when it cuts a frame."""
        if self._buffer:
            raise GuestError(f"the stream ends inside a frame, {len(self._buffer)} bytes after its beginning")

    def _at(self, position: int) -> Frame | None:
        if len(self._buffer) - position < _HEADER.size:
            return None
        kind, zero, length, offset = _HEADER.unpack_from(self._buffer, position)
        _check_header(kind, zero, length, offset)
        begin = position + _HEADER.size
        if len(self._buffer) - begin < length:
            return None
        return Frame(cast(Kind, kind), offset, bytes(memoryview(self._buffer)[begin : begin + length]))

    def _check(self, frame: Frame) -> None:
        self._seen += 1
        if self.exited and frame.kind != KEEPALIVE:
            raise GuestError(f"a frame of kind {frame.kind} after the process has exited")
        if frame.kind in (STDOUT, STDERR):
            self._advance(frame)
        elif frame.kind == GAP:
            self._skip(frame)
        elif frame.kind == STARTED and self._seen > 1:
            raise GuestError("a process that starts in the middle of its output")
        elif frame.kind == EXITED:
            self.exited = True

    def _advance(self, frame: Frame) -> None:
        expected = self._next[frame.kind]
        if expected is not None and frame.offset != expected:
            raise GuestError(f"output of stream {frame.kind} at offset {frame.offset}, expected {expected}")
        self._next[frame.kind] = frame.offset + len(frame.payload)

    def _skip(self, frame: Frame) -> None:
        stream, lost = frame.gap()
        expected = self._next[stream]
        if lost == 0 or lost > frame.offset or (expected is not None and frame.offset != expected + lost):
            raise GuestError(f"a gap of {lost} bytes up to offset {frame.offset} in stream {stream} at {expected}")
        self._next[stream] = frame.offset


def _start(offset: int | None) -> int | None:
    return None if offset is None or offset < 0 else offset


def _check_header(kind: int, zero: bytes, length: int, offset: int) -> None:
    if not STARTED <= kind <= KEEPALIVE:
        raise GuestError(f"a frame of the unknown kind {kind}")
    if zero != b"\0\0\0":
        raise GuestError("a frame whose reserved bytes are not zero")
    if length > MAX_PAYLOAD_BYTES:
        raise GuestError(f"a frame of {length} bytes; at most {MAX_PAYLOAD_BYTES} are allowed")
    if offset > MAX_OFFSET - length:
        raise GuestError(f"a frame at the impossible offset {offset}")
    if kind in (STARTED, EXITED, KEEPALIVE) and offset:
        raise GuestError(f"a frame of kind {kind} with offset {offset}")
    if kind == KEEPALIVE and length:
        raise GuestError("a keepalive with a payload")
