"""HTTP/1.1 as a client speaks it, without I/O: the bytes of a request, and an answer out of the bytes that come.

Both clients use it, the SDK's and the node's of its guests; the parser is llhttp. An answer may come from hostile code,
so it is stricter than HTTP: a head has a largest size, and a body must say where it ends."""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

Headers = list[tuple[bytes, bytes]]

#: of one head, and of what may come between two bytes of a body (chunk extensions, trailers)
MAX_HEAD_BYTES = 64 << 10
MAX_HEADERS = 128
#: a body up to this size travels with its head
SMALL_BYTES = 64 << 10

_TARGET = re.compile(rb"[\x21-\x7e]+")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[\t\x20-\x7e\x80-\xff]*")
_BODILESS = frozenset({204, 304})


class ProtocolError(Exception):
    """What came is no answer that this wire allows."""


def request_head(method: str, target: bytes, headers: Headers) -> bytes:
    """Raises ValueError for what would not stay one head."""
    if not _TARGET.fullmatch(target):
        raise ValueError("a request target with spaces or control characters")
    fields = [b"%s: %s" % header for header in headers]
    if not all(map(_FIELD.fullmatch, fields)):
        raise ValueError("a header with control characters")
    return b"%s %s HTTP/1.1\r\n%s\r\n\r\n" % (method.encode("ascii"), target, b"\r\n".join(fields))


class BodyFraming:
    """How the pieces of a body are written. `length` None: in chunks."""

    def __init__(self, length: int | None) -> None:
        self._left = length

    def piece(self, data: bytes) -> bytes:
        """Raises ValueError beyond the length."""
        if self._left is None:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("the body is longer than its Content-Length")
        return data

    def end(self) -> bytes:
        """Raises ValueError before the length is reached."""
        if self._left is None:
            return b"0\r\n\r\n"
        if self._left:
            raise ValueError("the body is shorter than its Content-Length")
        return b""


class Answer:
    """Feed it what comes until it is `complete`; `take` what has come of the body meanwhile.

    `status` is 0 until the head is there. `leading`: what came behind the head of a 101, which only an answer that
    `may_upgrade` may be."""

    def __init__(self, *, may_upgrade: bool = False) -> None:
        self.status = 0
        self.headers: Headers = []
        self.complete = False
        self.reusable = False
        self.leading = b""
        self._may_upgrade = may_upgrade
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._bodiless_bytes = 0
        self._head_bytes = 0
        self._says_its_end = False
        self._keeps_alive = False

    def feed(self, data: bytes) -> None:
        """Raises ProtocolError. What comes behind a complete answer is nobody's, and ends the connection's use."""
        assert self._parser is not None
        self._bodiless_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as switched:
            self.leading = data[switched.args[0] :]
        except HttpParserError as error:
            if error.__context__ is not None and not isinstance(error.__context__, Exception):
                # Ctrl-C that falls into a callback is no fault of the answer
                raise error.__context__ from None
            if not self.complete:
                raise ProtocolError(str(error.__context__ or error)) from error
            self.reusable = False
        if self.complete:
            # parser and answer hold each other
            self._parser = None
        elif self._bodiless_bytes > MAX_HEAD_BYTES:
            raise ProtocolError(f"more than {MAX_HEAD_BYTES} bytes that are no body")

    def take(self) -> bytes:
        """What has come of the body since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def on_message_begin(self) -> None:
        if self.complete:
            raise ProtocolError("bytes behind the end of the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            raise ProtocolError("a head of impossible size")
        if self.status:
            # trailers: counted, and meant for nobody
            return
        name = name.lower()
        if name == b"content-length" or (name == b"transfer-encoding" and value.lower() == b"chunked"):
            self._says_its_end = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        if self.status < 100:
            raise ProtocolError(f"no status: {self.status}")
        if self.status >= 200:
            self._keeps_alive = self._parser.should_keep_alive()
            if not self._says_its_end and self.status not in _BODILESS:
                raise ProtocolError("an answer that does not say where it ends")

    def on_body(self, data: bytes) -> None:
        self._bodiless_bytes = 0
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self.status == 101:
            if not (self._may_upgrade and self._parser.should_upgrade()):
                raise ProtocolError("an upgrade that nobody asked for")
            self.complete = True
        elif self.status < 200:
            self._forget_head()
        else:
            self.complete, self.reusable = True, self._keeps_alive

    def _forget_head(self) -> None:
        """It was a 1xx: the answer itself is still to come."""
        self.status, self.headers, self._says_its_end = 0, [], False
        self._head_bytes = self._bodiless_bytes = 0
