"""A client of the sandbox's HTTP proxy port: requests are carried one by one, and a CONNECT becomes a connection."""

from __future__ import annotations

import asyncio

from cloche.egress.connection import OTHER_POLICY, TURNED_AWAY, Connection
from cloche.egress.deciding.attempt import Decided
from cloche.egress.hooks import Tunnel
from cloche.egress.http import flow
from cloche.egress.outward.sockets import SocketStream
from cloche.egress.outward.way_out import WayOut
from cloche.egress.passage import Passage


class ProxyClient:
    """`connection` is of the request that is carried now."""

    def __init__(self, stream: SocketStream, connection: Connection) -> None:
        self._stream = stream
        self._connection = connection
        self._attached = connection.attached
        self._way_out = WayOut(connection)
        self._task: asyncio.Task[None] | None = None
        self._revoked = ""

    async def until_tunnel(self) -> Tunnel | None:
        """None: the client has had enough, or a change of policy has ended it. Raises CancelledError only."""
        self._task = asyncio.current_task()
        self._attached.connections.add(self)
        passage = Passage(self._connection, self._way_out)
        try:
            return await flow.serve_requests(self._stream, None, passage, self._stream.take_peeked())
        except asyncio.CancelledError:
            if not self._revoked or self._task is None:
                raise
            self._task.uncancel()
            self._attached.write(self._connection.line("revoked", self._revoked))
            return None
        finally:
            self._attached.connections.discard(self)
            self._connection.held.release()

    def review(self) -> None:
        """The policy is another: a request that it does not allow ends in the middle."""
        if not self._connection.attempt.host or self._revoked or self._task is None:
            return
        for attempt in self._connection.attempts():
            verdict = self._attached.decide(attempt)
            if isinstance(verdict, Decided) and verdict.action == "deny":
                self._connection.decision = verdict
                self._revoke(self._task, OTHER_POLICY)
                return

    def review_neighbour(self) -> None:
        attempt = self._connection.attempt
        if self._task is not None and not self._revoked and self._way_out.is_turned_away(attempt):
            self._revoke(self._task, TURNED_AWAY)

    def _revoke(self, task: asyncio.Task[None], why: str) -> None:
        self._revoked = why
        task.cancel()
