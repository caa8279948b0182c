"""Bytes between a client and a port inside, as they come, counted."""

from __future__ import annotations

import socket

from cloche.egress.inward.published import Visit
from cloche.egress.outward.relay import CHUNK_BYTES, Relay
from cloche.egress.outward.sockets import SocketStream


async def carry(visit: Visit, inside: SocketStream, client: socket.socket, said: bytes = b"") -> None:
    """Until both have ended; both are closed then. `said`: what the client has sent already. Raises OSError."""
    await Relay(inside.socket, client, _Counting(visit)).run(first=inside.take_peeked(), answered=said)


class _Counting:
    """Budgets are of what a sandbox begins itself."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit

    def room(self, wanted: int, *, sending: bool) -> int:
        return CHUNK_BYTES

    def took(self, count: int, *, sending: bool) -> None:
        if sending:
            self._visit.sent_bytes += count
        else:
            self._visit.received_bytes += count

    def spend(self, count: int, *, sending: bool) -> None:
        self.took(count, sending=sending)

    def delay(self) -> float:
        return 0.0
