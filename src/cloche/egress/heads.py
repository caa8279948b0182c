"""Heads of HTTP/1 requests and responses: read strictly, written anew. Without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cloche.egress.framing import Framing

Headers = tuple[tuple[bytes, bytes], ...]
MAX_HEAD_BYTES = 64 << 10


class BadMessageError(ValueError):
    """No message that this door carries. `status`: what a client is answered (400, 417, 431, 501, 505; 502 when it was
    the upstream's)."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class RequestHead:
    """`form`: "origin" (`/path`), "absolute" (`http://host/path`), "authority" (CONNECT), "asterisk" (OPTIONS).
    `scheme`: of the absolute form, else "". `host`: lower case, as in target or Host header, without port and brackets;
    "" when an HTTP/1.0 request names none. `port`: as it was said; None: it was not. `target`: for an origin server,
    path and query (`*` of asterisk). `headers`: in order and in the case in which they came. `upgrade`: the protocol
    that a bodiless HTTP/1.1 request proposes ("websocket"), lower case; None: it proposes none."""

    method: str
    target: str
    form: Literal["origin", "absolute", "authority", "asterisk"]
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
        name = name.lower()
        return [value for key, value in self.headers if key.lower() == name]

    def upstream(
        self, *, authority: str, close: bool = False, upgrade: bool = False, headers: Headers | None = None,
        target: str | None = None,
    ) -> bytes:  # fmt: skip
        """The head as an origin server gets it: HTTP/1.1, origin-form, `Host: authority` where the client's was, order
        and case kept; without what is meant for this connection only (Connection and what it names, Keep-Alive,
        Proxy-*, TE but for trailers, Upgrade). `upgrade`: hand the proposal on. `close`: ask for the end of the
        connection. `headers`, `target`: instead of its own (secrets put in); framing headers must be as they were.
        Raises BadMessageError for what would not stay one head."""
        raise NotImplementedError


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

    def values(self, name: bytes) -> list[bytes]:
        """Of every header of this name (any case)."""
        name = name.lower()
        return [value for key, value in self.headers if key.lower() == name]

    def downstream(self, request: RequestHead, *, close: bool = False, headers: Headers | None = None) -> bytes:
        """The head as the client of `request` gets it: HTTP/1.1, hop-by-hop headers replaced. b"" for 1xx that a client
        of HTTP/1.0 would not understand. `headers`: instead of its own."""
        raise NotImplementedError

    def body_for(self, request: RequestHead) -> Framing:
        """How the body goes to that client: as it came, but chunks to HTTP/1.0 become "close" (then the connection must
        be closed after it)."""
        raise NotImplementedError
