"""A client of the sandbox's HTTP proxy port: requests are carried one by one, and a CONNECT becomes a connection."""

from __future__ import annotations

from cloche.egress import flow
from cloche.egress.connection import Connection
from cloche.egress.hooks import Tunnel
from cloche.egress.passage import Passage
from cloche.egress.sockets import SocketStream
from cloche.egress.way_out import WayOut


async def until_tunnel(stream: SocketStream, connection: Connection) -> Tunnel | None:
    """None: the client has had enough. Raises CancelledError only."""
    passage = Passage(connection, WayOut(connection))
    first = stream.take_peeked()
    return await flow.serve_requests(stream, None, passage, first)
