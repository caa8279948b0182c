"""What the first bytes of a connection are: a TLS hello, an HTTP request, or anything else. Pure.

In doubt it wants more bytes, and who does not send them is not carried: a guess would let one protocol pass as
another."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloche.egress.deciding import names
from cloche.egress.tls.sni import BadHelloError, ClientHello, NeedMore, NotTls
from cloche.model.egress import Protocol

_WORDS = (
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT "
    b"SEARCH MKCALENDAR ACL BIND REBIND UNBIND PURGE LINK UNLINK SOURCE QUERY CHECKOUT CHECKIN MERGE MKACTIVITY"
)
_METHODS = tuple(word + b" " for word in _WORDS.split())
#: any word before a path and HTTP's version is a method too; one after the other, as together they would take seconds
_WORD = re.compile(rb"[!-~]++[ \t]")
_VERSION = re.compile(rb"[ \t]HTTP/1\.[0-9]")
_BEFORE_A_REQUEST = b"\r\n \t"


@dataclass(frozen=True, slots=True)
class Seen:
    protocol: Protocol
    hello: ClientHello | None = None


def first_bytes(data: bytes) -> Seen | NeedMore:
    """Raises BadHelloError for what begins as TLS and is no hello."""
    hello = ClientHello.parse(data)
    if isinstance(hello, NeedMore):
        return hello
    if isinstance(hello, ClientHello):
        return Seen("tls", hello)
    assert isinstance(hello, NotTls)
    return _plain(data.lstrip(_BEFORE_A_REQUEST)) or NeedMore(len(data) + 1)


def _plain(data: bytes) -> Seen | None:
    # servers pass over blanks in front of a request, so these alone say nothing
    if not data or any(method.startswith(data[: len(method)]) and len(data) < len(method) for method in _METHODS):
        return None
    if data.startswith(_METHODS):
        return Seen("http")
    line, newline, _ = data.partition(b"\n")
    if _is_request_line(line.partition(b"\r")[0]):
        return Seen("http")
    return Seen("tcp") if newline or not _could_become_request(line) else None


def _is_request_line(line: bytes) -> bool:
    word = _WORD.match(line)
    return word is not None and _VERSION.search(line, word.end()) is not None


def _could_become_request(line: bytes) -> bool:
    """Letters, then a path: until the line is over it may still end in HTTP's version."""
    word, blank, rest = line.partition(b" ")
    begins = rest.startswith(b"/") or b"http://".startswith(rest[:7])
    return word.isalpha() and word.isupper() and bool(blank) and begins


def hello_refusal(hello: ClientHello, host: str, *, is_address: bool, encrypted_hello: bool) -> str | None:
    """Why this hello is not carried on a connection that was allowed for `host`; None when it is."""
    if hello.has_ech and not encrypted_hello:
        return "the name in the TLS hello is encrypted (ECH), so nobody can tell where it leads"
    if hello.sni is None:
        return None if is_address else "the TLS hello names no host (no SNI)"
    name = _read(hello.sni)
    if name is None:
        return "the TLS hello names an impossible host"
    if not is_address and name != host:
        return f"the TLS hello names another host ({name})"
    return None


def _read(sni: str) -> str | None:
    try:
        return names.read_host(sni).text
    except ValueError:
        return None


__all__ = ["BadHelloError", "NeedMore", "Seen", "first_bytes", "hello_refusal"]
