"""Heads of HTTP/1 requests and responses as the door writes them. Without I/O; `head_parsing.py` reads them.

What is written is made of the parts that were read, so both sides of the door see the same message or none. Order and
case of headers stay; what is meant for one connection only goes no further."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cloche.egress.http.framing import BadMessageError, Framing

Headers = tuple[tuple[bytes, bytes], ...]
Form = Literal["origin", "absolute", "authority", "asterisk"]

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*|\*")
_AUTHORITY = re.compile(r"[0-9A-Za-z._:\[\]-]+")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_HOP_BY_HOP = frozenset(
    {
        b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"upgrade",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RequestHead:
    """`form`: "origin" (`/path`), "absolute" (`http://host/path`), "authority" (CONNECT), "asterisk" (OPTIONS).
    `scheme`: of the absolute form, else "". `host`: lower case, as in target or Host header, without port and brackets;
    "" when an HTTP/1.0 request names none. `port`: as it was said; None: it was not. `target`: for an origin server,
    path and query (`*` of asterisk). `headers`: in order and in the case in which they came. `upgrade`: the protocol
    that a bodiless HTTP/1.1 request proposes ("websocket"), lower case; None: it proposes none."""

    method: str
    target: str
    form: Form
    scheme: str
    host: str
    port: int | None
    version: str
    headers: Headers
    framing: Framing
    keep_alive: bool
    expects_continue: bool
    upgrade: str | None

    @property
    def path(self) -> str:
        """The target without its query, as it was sent (nothing decoded)."""
        return self.target.partition("?")[0]

    def values(self, name: bytes) -> list[bytes]:
        """Of every header of this name (any case)."""
        return values_of(self.headers, name)

    def upstream(
        self, *, authority: str, close: bool = False, upgrade: bool = False, headers: Headers | None = None,
        target: str | None = None,
    ) -> bytes:  # fmt: skip
        """The head as an origin server gets it: HTTP/1.1, origin-form, `Host: authority` where the client's was, order
        and case kept; without what is meant for this connection only (Connection and what it names, Keep-Alive,
        Proxy-*, TE, Trailer, Upgrade). `upgrade`: hand the proposal on. `close`: ask for the end of the connection.
        `headers`, `target`: instead of its own (secrets put in); framing headers must be as they were. Raises
        BadMessageError for what would not stay one head."""
        proposes = upgrade and self.upgrade is not None
        kept = _end_to_end(_same_framing(self.headers, headers), b"upgrade" if proposes else b"")
        fields = _with_host(list(kept), authority)
        connection = [b"Upgrade"] * proposes + [b"close"] * (close and not proposes)
        line = b"%s %s HTTP/1.1" % (self.method.encode("ascii"), _checked_target(target or self.target))
        return _written(line, fields, connection)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """`framing` "tunnel" after 101. `keep_alive`: the upstream connection may be used again after the body. Status 1xx
    but 101 is followed by another head."""

    status: int
    reason: str
    version: str
    headers: Headers
    framing: Framing
    keep_alive: bool

    @property
    def is_informational(self) -> bool:
        """Another head follows."""
        return self.status < 200 and self.status != 101

    def values(self, name: bytes) -> list[bytes]:
        """Of every header of this name (any case)."""
        return values_of(self.headers, name)

    def downstream(self, request: RequestHead, *, close: bool = False, headers: Headers | None = None) -> bytes:
        """The head as the client of `request` gets it: HTTP/1.1, hop-by-hop headers replaced. b"" for 1xx that a client
        of HTTP/1.0 would not understand. `headers`: instead of its own, framing as it was. Raises BadMessageError."""
        if self.is_informational and request.version == "1.0":
            return b""
        framing = self.body_for(request)
        kept = _end_to_end(_same_framing(self.headers, headers), b"upgrade" if self.status == 101 else b"")
        left_out = self._framing_left_out(framing)
        fields = [header for header in kept if header[0].lower() not in left_out]
        line = b"HTTP/1.1 %d %s" % (self.status, self.reason.encode("latin-1"))
        return _written(line, fields, self._connection(request, close or framing.kind == "close"))

    def body_for(self, request: RequestHead) -> Framing:
        """How the body goes to that client: as it came, but chunks to HTTP/1.0 become "close" (then the connection must
        be closed after it)."""
        chunks_for_old = self.framing.kind == "chunked" and request.version == "1.0"
        return Framing("close") if chunks_for_old else self.framing

    def _framing_left_out(self, framing: Framing) -> frozenset[bytes]:
        if self.status == 204 or self.status < 200:
            return _FRAMING
        return frozenset({b"transfer-encoding"}) if framing.kind == "close" else frozenset()

    def _connection(self, request: RequestHead, close: bool) -> list[bytes]:
        if self.status == 101:
            return [b"Upgrade"]
        if self.is_informational:
            return []
        if close or not request.keep_alive:
            return [b"close"]
        return [b"keep-alive"] if request.version == "1.0" else []


def values_of(headers: Headers, name: bytes) -> list[bytes]:
    """Of every header of this name (any case)."""
    name = name.lower()
    return [value for key, value in headers if key.lower() == name]


def connection_tokens(headers: Headers) -> frozenset[bytes]:
    """What Connection names, in lower case."""
    listed = b",".join(values_of(headers, b"connection")).lower().split(b",")
    return frozenset(token.strip() for token in listed) - {b""}


def _same_framing(own: Headers, others: Headers | None) -> Headers:
    if others is None:
        return own
    for name in _FRAMING:
        if values_of(own, name) != values_of(others, name):
            raise BadMessageError("headers that change where the body ends")
    return others


def _end_to_end(headers: Headers, kept: bytes) -> Iterator[tuple[bytes, bytes]]:
    left_out = (_HOP_BY_HOP | connection_tokens(headers)) - {kept}
    return (header for header in headers if header[0].lower() not in left_out)


def _with_host(fields: list[tuple[bytes, bytes]], authority: str) -> list[tuple[bytes, bytes]]:
    if not _AUTHORITY.fullmatch(authority):
        raise BadMessageError("no authority")
    value = authority.encode("ascii")
    if any(name.lower() == b"host" for name, _ in fields):
        return [(name, value if name.lower() == b"host" else old) for name, old in fields]
    return [(b"Host", value), *fields]


def _checked_target(target: str) -> bytes:
    if not _TARGET.fullmatch(target):
        raise BadMessageError("a target with spaces or control characters")
    return target.encode("ascii")


def _written(line: bytes, fields: list[tuple[bytes, bytes]], connection: list[bytes]) -> bytes:
    for name, value in fields:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadMessageError("a header with control characters")
    lines = [line, *(b"%s: %s" % field for field in fields), *(b"Connection: " + option for option in connection)]
    return b"\r\n".join(lines) + b"\r\n\r\n"
