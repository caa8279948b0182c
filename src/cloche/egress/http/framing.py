"""Where the body of an HTTP/1 message ends, how it is read and how it is written anew. Without I/O.

Bodies pass in the pieces in which they come: a piece of a body with a length is not copied. Chunks are taken apart and
made anew, so nothing that is odd about them (extensions, zeros in front of a size, trailers) reaches the other side.
h11's own reader of chunks would do, but lets spaces behind a size pass and extensions without end, and costs three
times as much for small chunks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

#: extensions and trailers of one message together; what they say goes no further
MAX_EXTRA_BYTES = 16 << 10
_MAX_LINE_BYTES = 4 << 10
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;[\t\x20-\x7e\x80-\xff]*)?)\r\n")
_TRAILER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t\x20-\x7e\x80-\xff]*\r\n")
_NO_TRAILERS = frozenset({b"content-length", b"host", b"transfer-encoding"})
_BARE_NEWLINE = re.compile(rb"(?<!\r)\n")
_MAX_CHUNK_BYTES = 1 << 62


class BadMessageError(ValueError):
    """No message that this door carries. `status`: what a client is answered (400, 417, 431, 501, 505; 502 when it was
    the upstream's)."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Framing:
    """`kind`: "none"; "length"; "chunked"; "close" (a response, until the connection ends); "tunnel" (CONNECT, 101:
    raw bytes both ways from here). `length` in bytes, of "length" only."""

    kind: Literal["none", "length", "chunked", "close", "tunnel"]
    length: int = 0


class BodyWriter:
    """Writes one body with this framing."""

    def __init__(self, framing: Framing) -> None:
        self._chunked = framing.kind == "chunked"
        self._left = {"length": framing.length, "none": 0}.get(framing.kind)

    def piece(self, data: bytes) -> bytes:
        """What to send for these bytes of the body. Raises ValueError beyond the length."""
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise ValueError("the body is longer than it may be")
        return data

    def end(self) -> bytes:
        """What to send at the end. Raises ValueError before the length is reached."""
        if self._left:
            raise ValueError("the body is shorter than its length")
        return b"0\r\n\r\n" if self._chunked else b""


class Received:
    """Bytes that came and are not used yet."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self.ended = False

    def __len__(self) -> int:
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """b"" for the end."""
        if not data:
            self.ended = True
        elif len(self):
            self._data, self._at = self._data[self._at :] + data, 0
        else:
            self._data, self._at = data, 0

    def take(self, most: int) -> bytes:
        """What is there, as one piece."""
        start, end = self._at, min(self._at + most, len(self._data))
        self._at = end
        taken = self._data if start == 0 and end == len(self._data) else self._data[start:end]
        if end == len(self._data):
            self._data, self._at = b"", 0
        return taken

    def match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        """At the beginning; what matched is taken."""
        found = pattern.match(self._data, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def starts(self, prefix: bytes) -> bool:
        return self._data.startswith(prefix, self._at)

    def find(self, mark: bytes, start: int, end: int) -> int:
        """Its distance from the beginning; -1: it is not between `start` and `end`."""
        found = self._data.find(mark, self._at + start, self._at + end)
        return found if found < 0 else found - self._at

    def has_more(self) -> bool:
        """Raises BadMessageError when nothing is there and nothing will come."""
        if not len(self):
            self.check_more()
        return len(self) > 0

    def check_more(self) -> None:
        if self.ended:
            raise BadMessageError("the body ended too early")

    def has_bare_newline(self, start: int) -> bool:
        """An LF behind `start` without a CR before it."""
        return _BARE_NEWLINE.search(self._data, self._at + start) is not None


class LengthReader:
    def __init__(self, length: int) -> None:
        self._left = length

    def next(self, received: Received) -> bytes | None:
        """A piece; b"": the body is complete; None: more is needed. Raises BadMessageError."""
        if not self._left:
            return b""
        if not received.has_more():
            return None
        piece = received.take(self._left)
        self._left -= len(piece)
        return piece


class CloseReader:
    def next(self, received: Received) -> bytes | None:
        if len(received):
            return received.take(len(received))
        return b"" if received.ended else None


class ChunkedReader:
    """States: between chunks, in a chunk (`_left` bytes of it to come), behind its last byte, in the trailers."""

    def __init__(self) -> None:
        self._state: Literal["size", "data", "data_end", "trailers", "done"] = "size"
        self._left = 0
        self._extra_bytes = 0

    def next(self, received: Received) -> bytes | None:
        """What is there of several chunks as one piece; b"": the body is complete; None: more is needed. Raises
        BadMessageError."""
        pieces: list[bytes] = []
        while piece := self._chunk(received):
            pieces.append(piece)
        if pieces:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return piece

    def _chunk(self, received: Received) -> bytes | None:
        while self._state not in ("data", "done"):
            if not self._step(received):
                received.check_more()
                return None
        if self._state == "done":
            return b""
        return self._piece(received) if received.has_more() else None

    def _piece(self, received: Received) -> bytes:
        piece = received.take(self._left)
        self._left -= len(piece)
        if not self._left:
            self._state = "data_end"
        return piece

    def _step(self, received: Received) -> bool:
        """Whether there was enough for it."""
        if self._state == "size":
            return self._size(received)
        if self._state == "data_end":
            return self._data_end(received)
        return self._trailer(received)

    def _size(self, received: Received) -> bool:
        line = received.match(_SIZE_LINE)
        if line is None:
            _check_line(received, b"0123456789abcdefABCDEF")
            return False
        self._count(len(line[2]))
        self._left = int(line[1], 16)
        if self._left > _MAX_CHUNK_BYTES:
            raise BadMessageError("a chunk of impossible size")
        self._state = "data" if self._left else "trailers"
        return True

    def _data_end(self, received: Received) -> bool:
        if len(received) < 2:
            if len(received) and not received.starts(b"\r"):
                raise BadMessageError("a chunk that does not end where it says")
            return False
        if received.take(2) != b"\r\n":
            raise BadMessageError("a chunk that does not end where it says")
        self._state = "size"
        return True

    def _trailer(self, received: Received) -> bool:
        if received.starts(b"\r\n"):
            received.take(2)
            self._state = "done"
            return True
        line = received.match(_TRAILER)
        if line is None:
            if len(received) > 1 or not received.starts(b"\r"):
                _check_line(received, b"")
            return False
        if line[1].lower() in _NO_TRAILERS:
            raise BadMessageError("a trailer that belongs in a head")
        self._count(len(line[0]))
        return True

    def _count(self, extra: int) -> None:
        self._extra_bytes += extra
        if self._extra_bytes > MAX_EXTRA_BYTES:
            raise BadMessageError(f"more than {MAX_EXTRA_BYTES} bytes of chunk extensions and trailers")


def _check_line(received: Received, first: bytes) -> None:
    """What is there may still become a line."""
    start = received.find(b"\n", 0, _MAX_LINE_BYTES)
    wrong = first and len(received) and not any(received.starts(first[i : i + 1]) for i in range(len(first)))
    if wrong or start >= 0 or len(received) >= _MAX_LINE_BYTES:
        raise BadMessageError("a line of a chunked body that is none")


BodyReader = LengthReader | CloseReader | ChunkedReader


def reader_of(framing: Framing) -> BodyReader:
    """Of a body; "none" is a body of no bytes."""
    if framing.kind == "chunked":
        return ChunkedReader()
    return CloseReader() if framing.kind == "close" else LengthReader(framing.length)
