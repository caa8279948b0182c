"""Whose name the first request to a port's own address says, if it is a request at all. Without I/O.

A page in a browser may lead a name of its own to this machine (DNS rebinding) and would then read what a sandbox
answers. What gives it away is Host, which no page can change. Browsers say an HTTP/1 head without pauses, with a path
for a target; whatever looks otherwise comes from a program that can reach this machine anyway, and passes."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from cloche.egress.deciding.names import is_address

#: a head that is not complete by then is refused, if it is one
MAX_BYTES = 64 << 10
_BEGUN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: (/.*)?)?", re.DOTALL)
_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ /[^\n]* HTTP/1\.[0-9]\r?\n")
_END = re.compile(rb"\n\r?\n")
_HOST = re.compile(rb"\nhost[ \t]*:([^\r\n]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]*))(?::[0-9]*)?")


class Seen(NamedTuple):
    """`kind`: "raw" (no request of a browser), "word" (it may become anything), "line" (perhaps a request), "head" (a
    request whose head is not complete), "request". `hosts`: of a request."""

    kind: Literal["raw", "word", "line", "head", "request"]
    hosts: tuple[str, ...] = ()


def look(data: bytes) -> Seen:
    """At the first bytes of a connection; there are some."""
    if b"\n" not in data:
        begun = _BEGUN.fullmatch(data)
        if begun is None:
            return Seen("raw")
        return Seen("line" if begun[1] else "word")
    if not _LINE.match(data):
        return Seen("raw")
    end = _END.search(data)
    if end is None:
        return Seen("head")
    return Seen("request", tuple(value.decode("latin-1") for value in _HOST.findall(data, 0, end.start())))


def is_of_this_machine(host: str) -> bool:
    """A value of Host. No page can be served under such a name but by this machine; "" is no browser's."""
    found = _AUTHORITY.fullmatch(host.strip("\t "))
    if found is None:
        return False
    name = (found[1] or found[2]).lower().removesuffix(".")
    return not name or name == "localhost" or name.endswith(".localhost") or is_address(name)
