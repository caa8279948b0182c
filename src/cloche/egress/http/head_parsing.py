"""Heads of HTTP/1 messages, read strictly. Without I/O.

h11 reads them: it keeps order and case, refuses spaces around names, several Hosts, a second coding of a body, and any
target that is not visible ASCII, in 20 µs. What it lets pass and is refused here: bare LF, folded lines, control
characters in values, Content-Length beside Transfer-Encoding, several lengths (even equal ones) and odd ones, codings
with HTTP/1.0, versions other than 1.0 and 1.1, methods in lower case, a Host that differs from the target's, user info,
fragments, Host or framing headers named by Connection. (llhttp, by httptools, lets several Hosts or none, other codings
before chunked and two spaces pass, and does not keep the body of a request with Upgrade.)"""

from __future__ import annotations

import re
from typing import NamedTuple

import h11

from cloche.egress.http.framing import BadMessageError, Framing
from cloche.egress.http.heads import Form, Headers, RequestHead, ResponseHead, connection_tokens, values_of

MAX_HEAD_BYTES = 64 << 10
#: each is held against every secret
MAX_HEADERS = 256

_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")
_LINES = re.compile(rb"[\x20-\x7e\x80-\xff]+\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)((?:[/?][^#]*)?)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9A-Za-z._-]{1,254}))(?::([0-9]{1,5}))?")
#: blanks around the value are taken off later: to look for them here takes seconds when there are very many
_FRAMING_LINE = re.compile(rb"\n(content-length|transfer-encoding):([^\r]*+)\r", re.IGNORECASE)
_HOST = re.compile(rb"\nhost:", re.IGNORECASE)
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_FIRST = re.compile(rb"[A-Z][A-Z-]{0,31} (?:[/*]|https?:)|CONNECT [\x21-\x7e]")
_BEGUN = re.compile(rb"[A-Z][A-Z-]{0,31}(?: (?:h(?:t(?:t(?:ps?)?)?)?)?)?")
_PORTS = {"http": 80, "https": 443, "": 80}
_NEVER_NAMED = frozenset({b"content-length", b"transfer-encoding", b"host"})
_BODILESS = frozenset({204, 304})


class Destination(NamedTuple):
    """Of a request, as in RequestHead."""

    form: Form
    scheme: str
    host: str
    port: int | None
    target: str


def begins_request(data: bytes) -> bool | None:
    """Whether these first bytes of a connection begin as an HTTP request (also `PRI *` of HTTP/2 with prior knowledge,
    which is refused later). None: too few to say."""
    if _FIRST.match(data):
        return True
    return None if not data or _BEGUN.fullmatch(data) else False


def parse_request(head: bytes) -> RequestHead:
    """Of a head with its empty line. Raises BadMessageError."""
    _check_lines(head)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES + 1)
    event = _event(connection, _with_host(head))
    if not isinstance(event, h11.Request):
        raise BadMessageError("no request")
    version, headers = _version(event), tuple(event.headers.raw_items())
    method, target = event.method.decode("ascii"), event.target.decode("ascii")
    if not _METHOD.fullmatch(method):
        raise BadMessageError("a method that is no word in capitals", 501)
    framing = _framing(head, version)
    tokens = connection_tokens(headers)
    if not _NEVER_NAMED.isdisjoint(tokens):
        raise BadMessageError("Connection names a header that says what the message is")
    where = destination(method, target, values_of(headers, b"host"))
    return RequestHead(
        method=method, version=version, headers=headers, **where._asdict(), framing=_request_framing(method, framing),
        keep_alive=_keeps_alive(version, tokens), expects_continue=_expects(headers, version),
        upgrade=_upgrade(headers, version, tokens) if not framing.length and framing.kind != "chunked" else None,
    )  # fmt: skip


def parse_response(head: bytes, request: RequestHead) -> ResponseHead:
    """Of a head with its empty line. Raises BadMessageError with status 502."""
    try:
        return _response(head, request)
    except BadMessageError as error:
        raise BadMessageError(str(error), 502) from error


def _response(head: bytes, request: RequestHead) -> ResponseHead:
    _check_lines(head)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES + 1)
    # whether an upgrade was asked for, and a body belongs to it, is looked at below
    asked = [("Host", "-"), ("Connection", "Upgrade"), ("Upgrade", "-")]
    connection.send(h11.Request(method="GET", target="/", headers=asked))
    connection.send(h11.EndOfMessage())
    event = _event(connection, head)
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise BadMessageError("no response")
    version, headers = _version(event), tuple(event.headers.raw_items())
    framing = _response_framing(request, event.status_code, headers, _framing(head, version))
    return ResponseHead(
        status=event.status_code, reason=event.reason.decode("latin-1"), version=version, headers=headers,
        framing=framing, keep_alive=framing.kind not in ("close", "tunnel")
        and _keeps_alive(version, connection_tokens(headers)),
    )  # fmt: skip


def _response_framing(request: RequestHead, status: int, headers: Headers, framing: Framing) -> Framing:
    if status == 101:
        proposals = [value.lower() for value in values_of(headers, b"upgrade")]
        if request.upgrade is None or proposals != [request.upgrade.encode("ascii")]:
            raise BadMessageError("an upgrade that nobody asked for")
        return Framing("tunnel")
    if request.method == "CONNECT" and 200 <= status < 300:
        return Framing("tunnel")
    if status < 200 or status in _BODILESS or request.method == "HEAD":
        return Framing("none")
    return Framing("close") if framing.kind == "none" else framing


def _check_lines(head: bytes) -> None:
    if head.count(b"\n") > MAX_HEADERS + 2:
        raise BadMessageError(f"more than {MAX_HEADERS} headers", 431)
    if not _LINES.fullmatch(head):
        raise BadMessageError("a head with folded lines, control characters, bare CR or LF, or names that are none")


def _with_host(head: bytes) -> bytes:
    """A CONNECT says by its target where to, and some clients (lftp, scripts) leave it at that; h11 does not."""
    line, _, fields = head.partition(b"\n")
    if not line.startswith(b"CONNECT ") or _HOST.search(head):
        return head
    return b"%b\nHost: %b\r\n%b" % (line, line.split(b" ")[1], fields)


def _event(connection: h11.Connection, head: bytes) -> object:
    try:
        connection.receive_data(head)
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        # what h11 says may cite the bytes, and with them a secret in a form that no search would find
        raise BadMessageError("its first line or its headers are no HTTP") from error


def _version(event: h11.Request | h11.Response | h11.InformationalResponse) -> str:
    version = event.http_version.decode("ascii")
    if version not in ("1.0", "1.1"):
        raise BadMessageError(f"HTTP/{version}", 505)
    return version


def _framing(head: bytes, version: str) -> Framing:
    """As the headers say; "none" when they say nothing. Of the bytes, since h11 makes one of several equal lengths."""
    lines = _FRAMING_LINE.findall(head)
    if len(lines) > 1:
        raise BadMessageError("more than one header that says where the body ends")
    if not lines:
        return Framing("none")
    name, value = lines[0][0], lines[0][1].strip(b"\t ")
    if name.lower() == b"content-length":
        return _length(value)
    if value.lower() != b"chunked" or version == "1.0":
        raise BadMessageError("a transfer coding other than chunked, or with HTTP/1.0", 501)
    return Framing("chunked")


def _length(value: bytes) -> Framing:
    if not _LENGTH.fullmatch(value):
        raise BadMessageError("a Content-Length that is no number")
    return Framing("length", int(value))


def _request_framing(method: str, framing: Framing) -> Framing:
    if method != "CONNECT":
        return framing
    if framing.kind == "chunked" or framing.length:
        raise BadMessageError("a CONNECT with a body")
    return Framing("tunnel")


def destination(method: str, target: str, hosts: list[bytes]) -> Destination:
    """Where a request wants to go, of its target and Host header. Raises BadMessageError when the two differ."""
    said = _authority(hosts[0].decode("latin-1")) if hosts and hosts[0] else None
    if method == "CONNECT":
        return _tunnel(target, said)
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        return _absolute(method, absolute, said)
    if target[:1] != "/" and (target, method) != ("*", "OPTIONS"):
        raise BadMessageError("a target that is neither a path nor a URL of HTTP")
    if "#" in target or (hosts and said is None):
        raise BadMessageError("a target with a fragment, or an empty Host")
    host, port = said or ("", None)
    return Destination("asterisk" if target == "*" else "origin", "", host, port, target)


def _tunnel(target: str, said: tuple[str, int | None] | None) -> Destination:
    host, port = _authority(target)
    if port is None:
        raise BadMessageError("a CONNECT without a port")
    if said is not None and said not in ((host, port), (host, None)):
        raise BadMessageError("a Host that differs from the target")
    return Destination("authority", "", host, port, target)


def _absolute(method: str, found: re.Match[str], said: tuple[str, int | None] | None) -> Destination:
    scheme = found[1].lower()
    host, port = _authority(found[2])
    usual = _PORTS[scheme]
    if said is not None and (said[0], said[1] or usual) != (host, port or usual):
        raise BadMessageError("a Host that differs from the target")
    path = found[3]
    if not path.startswith("/"):
        path = "*" if not path and method == "OPTIONS" else "/" + path
    return Destination("absolute", scheme, host, port, path)


def _authority(text: str) -> tuple[str, int | None]:
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise BadMessageError("a host that is no name or address with perhaps a port")
    port = int(found[3]) if found[3] else None
    if port is not None and not 0 < port < 65536:
        raise BadMessageError("a port that is none")
    return (found[1] or found[2]).lower(), port


def _keeps_alive(version: str, tokens: frozenset[bytes]) -> bool:
    return b"close" not in tokens and (version == "1.1" or b"keep-alive" in tokens)


def _expects(headers: Headers, version: str) -> bool:
    expected = values_of(headers, b"expect")
    if not expected:
        return False
    if [value.lower() for value in expected] != [b"100-continue"]:
        raise BadMessageError("an expectation other than 100-continue", 417)
    return version == "1.1"


def _upgrade(headers: Headers, version: str, tokens: frozenset[bytes]) -> str | None:
    proposed = values_of(headers, b"upgrade")
    if version != "1.1" or b"upgrade" not in tokens or len(proposed) != 1:
        return None
    value = proposed[0].decode("latin-1").lower()
    return value if re.fullmatch(r"[a-z0-9./_-]{1,64}", value) else None
