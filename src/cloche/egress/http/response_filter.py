"""What a response passes through on its way to code that must not see the values of secrets."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace

from cloche.egress.http.framing import BadMessageError, Framing
from cloche.egress.http.heads import Headers, RequestHead, ResponseHead
from cloche.egress.secrecy.redaction import RedactedStream, Redaction

_READABLE = frozenset({b"gzip", b"x-gzip", b"deflate"})
#: of one step of decoding: a bomb goes to the code in pieces, and into its budget
_STEP_BYTES = 256 << 10
#: the window's size, and 32: zlib and gzip are told apart by their first bytes
_EITHER = 32 + zlib.MAX_WBITS


def readable_only(headers: Headers) -> Headers:
    """Asks the site for bodies, and frames of WebSockets, that the door can read."""
    left_out = (b"accept-encoding", b"sec-websocket-extensions")
    others = tuple(header for header in headers if header[0].lower() not in left_out)
    return (*others, (b"Accept-Encoding", b"identity"))


class UnreadableBodyError(BadMessageError):
    """The text has nothing in it that the site said."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, 502)


class ResponseFilter:
    """Of one response. Raises UnreadableBodyError for a body in an encoding that the door cannot read."""

    def __init__(self, redaction: Redaction, head: ResponseHead, request: RequestHead) -> None:
        coding = b",".join(head.values(b"content-encoding")).strip().lower()
        encoded = coding not in (b"", b"identity") and head.body_for(request).kind != "none"
        if encoded and coding not in _READABLE:
            # what the site calls it is not told: it could be a value
            raise UnreadableBodyError("the body is encoded in a way that cannot be read, although it should not be")
        self._stream = RedactedStream(redaction)
        self._decoder = _Decoder() if encoded else None
        self.head = _redacted(_decoded(head) if encoded else head, redaction)

    def piece(self, data: bytes) -> Iterator[bytes]:
        """Pieces that are not empty. Raises UnreadableBodyError."""
        for plain in self._decoder.piece(data) if self._decoder else (data,):
            if done := self._stream.piece(plain):
                yield done

    def end(self) -> bytes:
        """Raises UnreadableBodyError when the encoded body is not complete."""
        if self._decoder:
            self._decoder.end()
        return self._stream.end()


class _Decoder:
    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_EITHER)
        self._empty = True

    def piece(self, data: bytes) -> Iterator[bytes]:
        self._empty = self._empty and not data
        while data:
            try:
                yield self._zlib.decompress(data, _STEP_BYTES)
            except zlib.error as error:
                raise UnreadableBodyError("the compressed body is damaged") from error
            data = self._zlib.unconsumed_tail or self._zlib.unused_data
            if self._zlib.eof and data:
                self._zlib = zlib.decompressobj(_EITHER)

    def end(self) -> None:
        if not (self._zlib.eof or self._empty):
            raise UnreadableBodyError("the compressed body is not complete")


def _decoded(head: ResponseHead) -> ResponseHead:
    left_out = (b"content-encoding", b"content-length", b"transfer-encoding")
    others = tuple(header for header in head.headers if header[0].lower() not in left_out)
    if head.framing.kind == "close":
        return replace(head, headers=others)
    return replace(head, headers=(*others, (b"Transfer-Encoding", b"chunked")), framing=Framing("chunked"))


def _redacted(head: ResponseHead, redaction: Redaction) -> ResponseHead:
    headers = tuple(_redacted_header(*header, redaction) for header in head.headers)
    reason = redaction.whole(head.reason.encode("latin-1")).decode("latin-1")
    return replace(head, headers=tuple(header for header in headers if header), reason=reason)


def _redacted_header(name: bytes, value: bytes, redaction: Redaction) -> tuple[bytes, bytes] | None:
    """None: its name is a value."""
    if name.lower() in (b"content-length", b"transfer-encoding"):
        return name, value
    return (name, redaction.whole(value)) if redaction.whole(name) == name else None
