"""Bytes between a client and a port inside, as they come, counted."""

from __future__ import annotations

import asyncio
import contextlib

from cloche.egress.http.client_side import DRAIN_BYTES, DRAIN_SECONDS, HEAD_SECONDS
from cloche.egress.inward import ingress_pages
from cloche.egress.inward.first_bytes import MAX_BYTES, Seen, is_of_this_machine, look
from cloche.egress.inward.published import Entry, OtherHostError, Visit
from cloche.egress.outward.relay import CHUNK_BYTES, Relay
from cloche.egress.outward.sockets import SocketStream

#: how long what may become a request of a browser is kept back for the rest of it: browsers do not pause
PATIENCE_SECONDS = {"word": 0.1, "line": 1.0, "head": HEAD_SECONDS}


async def carry(visit: Visit, inside: SocketStream, client: SocketStream, said: bytes = b"") -> None:
    """Until both have ended; both are closed then. `said`: what the client has sent already. Raises OSError."""
    await _relay(visit, inside, client).run(first=said, answered=inside.take_peeked())


async def carry_checked(visit: Visit, inside: SocketStream, client: SocketStream) -> None:
    """As `carry`, unless it begins with a request for somebody else's host: raises OtherHostError. The server may
    speak first."""
    answered = inside.take_peeked()
    await _relay(visit, inside, client).run_looking(_first_bytes(visit.entry, client), answered=answered)


def _relay(visit: Visit, inside: SocketStream, client: SocketStream) -> Relay:
    return Relay(client.socket, inside.socket, _Counting(visit))


async def _first_bytes(entry: Entry, client: SocketStream) -> bytes:
    while True:
        seen = look(client.peeked) if client.peeked else None
        if seen is not None and seen.kind in ("raw", "request"):
            break
        if len(client.peeked) >= MAX_BYTES:
            await _refuse(entry, client)
        if not await _more(client, seen):
            break
    if seen is not None and not all(map(is_of_this_machine, seen.hosts)):
        await _refuse(entry, client)
    return client.take_peeked()


async def _more(client: SocketStream, seen: Seen | None) -> bool:
    """False: that was all. Raises ConnectionError."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS[seen.kind] if seen else None):
            return await client.peek_more()
    except TimeoutError:
        return False


async def _refuse(entry: Entry, client: SocketStream) -> None:
    # who does not read the page keeps no place for it
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            await client.write(ingress_pages.other_host(entry.port, entry.sandbox_id).http1())
    client.take_peeked()
    await client.drain(DRAIN_BYTES, DRAIN_SECONDS)
    raise OtherHostError


class _Counting:
    """Budgets are of what a sandbox begins itself. What the client sends is what the code receives."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit

    def room(self, wanted: int, *, sending: bool) -> int:
        return CHUNK_BYTES

    def took(self, count: int, *, sending: bool) -> None:
        if sending:
            self._visit.received_bytes += count
        else:
            self._visit.sent_bytes += count

    def spend(self, count: int, *, sending: bool) -> None:
        self.took(count, sending=sending)

    def delay(self) -> float:
        return 0.0
