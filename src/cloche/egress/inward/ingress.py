"""Published ports: what listens in a sandbox, reachable from this machine.

Each port has two ways in. One listener for all takes HTTP/1.1, WebSockets and HTTP/2 by the name SLUG.localhost; a
listener of its own takes anything (TLS, databases) and carries bytes. Both are on loopback, and both lead to the guest,
which connects to the port inside: nothing in a sandbox is ever given a socket of the host."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

from cloche.egress.inward import listener
from cloche.egress.inward.carrying import carry, carry_checked
from cloche.egress.inward.ingress_http import HttpConnection
from cloche.egress.inward.ingress_http2 import Http2Connection, speaks_http2
from cloche.egress.inward.listener import Listener, ended
from cloche.egress.inward.published import Entry, OtherHostError, Streams, Table, UnreachableError, Visit
from cloche.egress.outward.sockets import SocketStream, reset_on_close


class Ingress:
    """`streams` finds the way to the guest of a sandbox; `visited` is told of each connection that is over. Call
    `start` first, `close` at the end."""

    def __init__(self, streams: Streams, visited: Callable[[Visit], None] = lambda visit: None) -> None:
        self._streams = streams
        self._visited = visited
        self._table = Table()
        self._by_name: Listener | None = None
        self._by_address: dict[Entry, Listener] = {}

    @property
    def port(self) -> int:
        """Where ports are reached by name; 0 before the start."""
        return self._by_name.port if self._by_name else 0

    def start(self, port: int) -> int:
        """Listen on 127.0.0.1 and ::1 at this port, or another when somebody has it (0: any), and say which. Raises
        OSError."""
        self._by_name = Listener(listener.bound(port, both=True), self._serve_http)
        return self.port

    async def publish(
        self, sandbox_id: str, port: int, slug: str, address_port: int = 0, any_host: bool = False
    ) -> int:
        """The loopback port for raw TCP: `address_port`, or another when somebody has it. Again gives the same, and
        changes `any_host`. Raises OSError."""
        known = self._table.get(sandbox_id, port)
        if known is not None and known.slug == slug and (listening := self._by_address.get(known)):
            known.any_host = any_host
            return listening.port
        await self.unpublish(sandbox_id, port)
        entry = Entry(sandbox_id, port, slug, any_host)
        sockets = listener.bound(address_port, both=False)
        self._by_address[entry] = Listener(sockets, partial(self._serve_raw, entry))
        self._table.add(entry)
        return self._by_address[entry].port

    async def unpublish(self, sandbox_id: str, port: int) -> None:
        """Its connections end. What is not published is no error."""
        entry = self._table.remove(sandbox_id, port)
        if entry is not None:
            await self._end(entry)

    async def leave(self, sandbox_id: str) -> None:
        """The sandbox has stopped: its connections end, its names answer that it does not run."""
        for entry in self._table.leave(sandbox_id):
            await self._end(entry)

    async def close(self) -> None:
        listening = [*([self._by_name] if self._by_name else []), *self._by_address.values()]
        self._by_name, self._by_address = None, {}
        for each in listening:
            await each.close()

    async def _end(self, entry: Entry) -> None:
        listening = self._by_address.pop(entry, None)
        if listening is not None:
            await listening.close()
        await ended(entry.users)

    async def _serve_http(self, sock: socket.socket) -> None:
        stream = SocketStream(sock)
        try:
            speaks = Http2Connection if await speaks_http2(stream) else HttpConnection
        except (ConnectionError, TimeoutError):
            stream.close_now()
            return
        await speaks(stream, _peer(sock), self._table.named, self._streams, self._visited).run()

    async def _serve_raw(self, entry: Entry, sock: socket.socket) -> None:
        """A client of a port on which nobody listens sees a reset, as close to a refused connection as there is."""
        visit = Visit(entry=entry, protocol="tcp", peer=_peer(sock))
        try:
            client, inside = SocketStream(sock), await entry.dial(self._streams)
            await (carry if entry.any_host else carry_checked)(visit, inside, client)
        except UnreachableError as error:
            visit.why = error.why
            reset_on_close(sock)
        except OtherHostError:
            visit.why = "host"
        except OSError:
            pass
        finally:
            sock.close()
            self._visited(visit)


def _peer(sock: socket.socket) -> str:
    """ "" when the client has gone again already."""
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return ""
