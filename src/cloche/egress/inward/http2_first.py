"""Reads an HTTP/2 connection without TLS as far as its first request, to see for whom it is. Without I/O.

The name is in a compressed head, and a client may say other things before it. All that it says is kept as it came, for
the server in the sandbox, which is the one that speaks HTTP/2 with it: nothing is ever written anew here."""

from __future__ import annotations

from typing import NamedTuple

from cloche.egress.http.framing import BadMessageError
from cloche.egress.http.head_parsing import destination

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: until the first request is there
MAX_BYTES = 64 << 10
#: and until the client has taken note of a greeting: by then it may have filled its first window
MAX_UNGREETED_BYTES = 256 << 10
#: of the head as it comes: to read it takes up to 5 ms for each KiB
MAX_HEAD_BYTES = 16 << 10
#: no server has allowed more yet
MAX_FRAME_BYTES = 16 << 10
FRAME_HEAD_BYTES = 9

PROTOCOL_ERROR, SETTINGS_TIMEOUT, FRAME_SIZE_ERROR, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 1, 4, 6, 9, 11

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, GOAWAY, CONTINUATION = 0, 1, 3, 4, 5, 7, 9
#: these belong to a stream, and there is none before the first request
_NEVER_BEFORE = frozenset({DATA, RST_STREAM, PUSH_PROMISE, CONTINUATION})
ACK = END_STREAM = 1
END_HEADERS, _PADDED, _PRIORITY = 4, 8, 32


class BadHttp2Error(ValueError):
    """No HTTP/2 that this door carries. `code`: of GOAWAY."""

    def __init__(self, reason: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.code = code


class FirstRequest(NamedTuple):
    """`host`: lower case, without port and brackets; "" when it names none. `accept`: all of it."""

    stream_id: int
    host: str
    method: bytes
    accept: bytes


class _Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes


class FirstRequestReader:
    """Feed what the client sends, from its first byte on, and ask `next()` after each time."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0
        self._head = b""
        self._head_of = 0
        self._found: FirstRequest | None = None
        self.greeted = self.has_settings = self._noted = False

    def feed(self, data: bytes) -> None:
        self._data += data

    def greet(self) -> None:
        """The client was sent settings that are not the server's: its note of them is not for the server."""
        self.greeted = True

    def next(self) -> FirstRequest | None:
        """None: more is needed, also until a greeting is noted. Raises BadHttp2Error."""
        while not self.complete and (frame := self._frame()) is not None:
            self._take(frame)
        if not self.complete and len(self._data) >= (MAX_BYTES if self._found is None else MAX_UNGREETED_BYTES):
            raise BadHttp2Error("too much before the first request is complete", ENHANCE_YOUR_CALM)
        return self._found if self.complete else None

    @property
    def complete(self) -> bool:
        return self._found is not None and (self._noted or not self.greeted)

    @property
    def idle(self) -> bool:
        """Nothing has begun that would have to end soon."""
        return self._found is None and not self._head_of and self.has_settings and self._at == len(self._data)

    @property
    def said(self) -> bytes:
        """All that is for the server."""
        return bytes(self._data)

    def _frame(self) -> _Frame | None:
        start = self._at or len(PREFACE)
        if not self._at and not PREFACE.startswith(self._data[:start]):
            raise BadHttp2Error("it does not begin as HTTP/2")
        head = self._data[start : start + FRAME_HEAD_BYTES]
        end = start + FRAME_HEAD_BYTES + int.from_bytes(head[:3], "big")
        if len(head) < FRAME_HEAD_BYTES:
            return None
        if end - start - FRAME_HEAD_BYTES > MAX_FRAME_BYTES:
            raise BadHttp2Error("a frame that is too large", FRAME_SIZE_ERROR)
        if len(self._data) < end:
            return None
        self._at = end
        stream_id = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        return _Frame(head[3], head[4], stream_id, bytes(self._data[start + FRAME_HEAD_BYTES : end]))

    def _take(self, frame: _Frame) -> None:
        if self._head_of:
            self._take_more_of_head(frame)
        elif frame.kind == SETTINGS:
            self._take_settings(frame)
        elif not self.has_settings:
            raise BadHttp2Error("the first frame is not SETTINGS")
        elif self._found is None:
            self._take_before(frame)

    def _take_settings(self, frame: _Frame) -> None:
        if frame.stream_id or len(frame.payload) % 6:
            raise BadHttp2Error("SETTINGS of an odd form", FRAME_SIZE_ERROR)
        if not frame.flags & ACK:
            self.has_settings = True
        elif frame.payload or not self.greeted or self._noted:
            raise BadHttp2Error("it takes note of settings that nobody has sent")
        else:
            self._noted = True
            del self._data[self._at - FRAME_HEAD_BYTES : self._at]
            self._at -= FRAME_HEAD_BYTES

    def _take_before(self, frame: _Frame) -> None:
        if frame.kind in _NEVER_BEFORE:
            raise BadHttp2Error("a frame of a stream before there is one")
        if frame.kind == GOAWAY:
            raise BadHttp2Error("it leaves before it has asked")
        if frame.kind == HEADERS:
            if not frame.stream_id % 2:
                raise BadHttp2Error("a request on a stream that is not a client's")
            self._head_of = frame.stream_id
            self._add_to_head(_fragment(frame), frame)

    def _take_more_of_head(self, frame: _Frame) -> None:
        if (frame.kind, frame.stream_id) != (CONTINUATION, self._head_of):
            raise BadHttp2Error("a head that is interrupted")
        self._add_to_head(frame.payload, frame)

    def _add_to_head(self, fragment: bytes, frame: _Frame) -> None:
        self._head += fragment
        if len(self._head) > MAX_HEAD_BYTES:
            raise BadHttp2Error(f"a head of more than {MAX_HEAD_BYTES} bytes", ENHANCE_YOUR_CALM)
        if frame.flags & END_HEADERS:
            self._found, self._head_of = _request(frame.stream_id, self._head), 0


def _fragment(frame: _Frame) -> bytes:
    """Of the head: without padding and priority."""
    payload, padded = frame.payload, 0
    if frame.flags & _PADDED:
        padded, payload = (payload[0] if payload else 256), payload[1:]
    if frame.flags & _PRIORITY:
        payload = payload[5:] if len(payload) >= 5 else b""
    if padded > len(payload):
        raise BadHttp2Error("more padding than frame")
    return payload[: len(payload) - padded]


def _request(stream_id: int, block: bytes) -> FirstRequest:
    headers = _headers(block)
    accept = b",".join(value for name, value in headers if name == b"accept")
    methods = [value for name, value in headers if name == b":method"]
    if len(methods) != 1:
        raise BadHttp2Error("a request without a method")
    return FirstRequest(stream_id, _host(headers), methods[0], accept)


def _headers(block: bytes) -> list[tuple[bytes, bytes]]:
    # most doors never see HTTP/2
    from hpack import Decoder
    from hpack.exceptions import HPACKError

    decoder = Decoder(max_header_list_size=MAX_BYTES)
    try:
        return [(bytes(header[0]), bytes(header[1])) for header in decoder.decode(block, raw=True)]
    except HPACKError as error:
        raise BadHttp2Error("a head that cannot be read", COMPRESSION_ERROR) from error


def _host(headers: list[tuple[bytes, bytes]]) -> str:
    """A server may go by either, so both have to say the same."""
    said = [value for name, value in headers if name.lower() in (b":authority", b"host")]
    authorities = sum(name == b":authority" for name, _ in headers)
    if authorities > 1 or len(said) - authorities > 1:
        raise BadHttp2Error("a request for several hosts")
    try:
        named = {destination("GET", "/", [value])[2:4] for value in said}
    except BadMessageError as error:
        raise BadHttp2Error(str(error)) from error
    if len(named) > 1:
        raise BadHttp2Error("a Host that differs from the authority")
    return named.pop()[0] if named else ""
