"""Looks at what a connection says first, and holds it against what was allowed."""

from __future__ import annotations

import asyncio

from cloche.egress.connection import Connection, Refused
from cloche.egress.deciding.attempt import Attempt, Decided, Undecided
from cloche.egress.deciding.names import read_host
from cloche.egress.outward.sockets import SocketStream
from cloche.egress.sniff import BadHelloError, NeedMore, Seen, first_bytes, hello_refusal

#: for the first bytes, and for a whole hello
FIRST_BYTES_SECONDS = 10.0
#: a hello has its own bound, which is the same; blanks in front of a request have none
MAX_UNDECIDED_BYTES = 64 << 10


async def first_look(stream: SocketStream, connection: Connection) -> Seen | None:
    """Wait until the first bytes say what they are; they stay in the stream. None: it has ended before it said
    anything. Raises Refused."""
    try:
        async with asyncio.timeout(FIRST_BYTES_SECONDS):
            return await _seen(stream)
    except TimeoutError as error:
        raise Refused("denied", "it did not say in time what it is", connection.decision) from error
    except BadHelloError as error:
        raise Refused("denied", f"its TLS hello cannot be read: {error}", connection.decision) from error


def check(connection: Connection, known: Decided | Undecided, seen: Seen | None) -> None:
    """Before its bytes are carried as they are: everything that there is has been looked at. Raises Refused."""
    attempt = connection.attempt
    if isinstance(known, Undecided):
        raise Refused("denied", _missing(known, attempt), connection.decision)
    hello = seen.hello if seen is not None else None
    if hello is None:
        return
    why = hello_refusal(hello, attempt.host, is_address=attempt.is_address, encrypted_hello=known.encrypted_hello)
    if why is None and attempt.is_address and hello.sni is not None:
        why = _named_refusal(connection, hello.sni)
    if why is not None:
        raise Refused("denied", why, connection.decision)


def _named_refusal(connection: Connection, sni: str) -> str | None:
    """An address was allowed; a rule that denies the name in the hello counts all the same."""
    host = read_host(sni)
    if host.is_address:
        return None
    named = Attempt(host=host.text, is_address=False, port=connection.attempt.port, protocol="tls", sni=sni)
    verdict = connection.attached.decide(named)
    if isinstance(verdict, Undecided) or verdict.action != "deny" or verdict.rule == "default":
        return None
    return f"the TLS hello names {host.text}, which is denied ({verdict.rule})"


def _missing(known: Undecided, attempt: Attempt) -> str:
    if "address" in known.needs:
        return "its rule asks for an address, which only the upstream proxy knows"
    if attempt.protocol is None:
        return "it ended before it said what it is"
    return "its rule is about requests, and there are none to be seen"


async def _seen(stream: SocketStream) -> Seen | None:
    """Raises BadHelloError, also for an end within a hello, and Refused."""
    while isinstance(seen := first_bytes(stream.peeked), NeedMore):
        # a hello that comes byte by byte is not read again for each
        while len(stream.peeked) < seen.at_least:
            if len(stream.peeked) >= MAX_UNDECIDED_BYTES:
                raise Refused("denied", f"it did not say in {MAX_UNDECIDED_BYTES} bytes what it is")
            if not await stream.peek_more():
                return _ended(stream.peeked)
    return seen


def _ended(data: bytes) -> Seen | None:
    if data[:1] == b"\x16":
        raise BadHelloError("it ends too early")
    return Seen("tcp") if data else None
