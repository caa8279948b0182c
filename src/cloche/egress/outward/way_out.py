"""From a decision to a connected socket: which addresses a name has, which of them may be used, and the dialling."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

from cloche.egress.connection import Connection, Refused
from cloche.egress.deciding import names
from cloche.egress.deciding.attempt import Attempt, Decided, Undecided
from cloche.egress.hooks import DialError
from cloche.egress.inner.attached import Attached
from cloche.egress.outward import dial, upstream_proxy
from cloche.egress.outward.resolve import ResolveError
from cloche.egress.outward.sockets import SocketStream
from cloche.egress.world import Neighbour

NEIGHBOURS = ".sandbox"

#: which of several addresses is taken first
_BETTER = {"allow": 0, "undecided": 1, "ask": 2}


class WayOut:
    """Of one connection. Nothing is dialled that was not decided with its address, just before."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._attached: Attached = connection.attached
        self._world = connection.attached.world

    def goes_through_proxy(self, attempt: Attempt) -> bool:
        """Then nobody here knows its address. Raises Refused."""
        return self._proxy(attempt) is not None

    async def candidates(self, attempt: Attempt) -> list[tuple[str, Decided | Undecided]]:
        """The addresses of its host that are not denied, with what was decided for each, the best first. Raises
        Refused when there is none."""
        addresses = [attempt.host] if attempt.is_address else await self._look_up(attempt.host)
        if not addresses:
            raise Refused("failed", "there is no such name, or it has no address")
        decided = [(address, self._attached.decide(at(attempt, address))) for address in addresses]
        found = [one for one in decided if _rank(one[1]) is not None]
        if not found:
            address, worst = decided[0]
            assert isinstance(worst, Decided)
            self._connection.attempt = refused = at(attempt, address)
            raise self._connection.denied(refused, worst, worst.reason or "its address is denied")
        best = min(_rank(verdict) or 0 for _, verdict in found)
        return [one for one in found if _rank(one[1]) == best]

    async def connect(self, attempt: Attempt, addresses: list[str]) -> tuple[SocketStream, Attempt]:
        """The stream, and the attempt with the address that answered. Raises Refused."""
        try:
            if self.is_neighbour(attempt):
                return await self._to_neighbour(attempt), attempt
            proxy = self._proxy(attempt)
            if proxy is not None:
                return await self._through(proxy, attempt), attempt
            sock = await dial.dial(addresses, attempt.port)
        except DialError as error:
            raise Refused(error.code, error.reason) from error
        return SocketStream(sock), at(attempt, _peer(sock, addresses))

    def is_neighbour(self, attempt: Attempt) -> bool:
        return not attempt.is_address and attempt.host.endswith(NEIGHBOURS)

    def is_turned_away(self, attempt: Attempt) -> bool:
        """By another sandbox, which may have accepted it before."""
        if not self.is_neighbour(attempt):
            return False
        neighbour = self._neighbour(attempt)
        return neighbour is None or not neighbour.accepts(self._attached.name, attempt.port)

    def _neighbour(self, attempt: Attempt) -> Neighbour | None:
        return self._world.neighbours(self._attached.project, attempt.host.removesuffix(NEIGHBOURS))

    async def _to_neighbour(self, attempt: Attempt) -> SocketStream:
        neighbour = self._neighbour(attempt)
        if neighbour is None:
            raise Refused("failed", "there is no such sandbox")
        if not neighbour.accepts(self._attached.name, attempt.port):
            wanted = f"accept={self._attached.name or '*'}:{attempt.port}"
            raise Refused(
                "denied",
                f"that sandbox does not accept connections from this one on this port: its policy needs {wanted}",
            )
        return await neighbour.dial(attempt.port)

    async def _through(self, proxy: upstream_proxy.Proxy, attempt: Attempt) -> SocketStream:
        """The proxy's own address is the operator's choice, wherever it is."""
        sock = await dial.dial(await self._proxy_addresses(proxy.host), proxy.port)
        try:
            async with asyncio.timeout(dial.TIMEOUT_SECONDS):
                return await upstream_proxy.tunnel(sock, proxy, attempt.host, attempt.port)
        except TimeoutError as error:
            sock.close()
            raise DialError("the upstream proxy does not answer") from error
        except BaseException:
            sock.close()
            raise

    async def _proxy_addresses(self, host: str) -> list[str]:
        if names.is_address(host):
            return [names.canonical_address(host)]
        try:
            return await self._world.resolver.addresses(host)
        except ResolveError as error:
            raise DialError(f"the upstream proxy: {error}") from error

    async def _look_up(self, host: str) -> list[str]:
        try:
            async with self._attached.looking_up():
                return await self._world.resolver.addresses(host, self._attached.id)
        except ResolveError as error:
            raise Refused("failed", f"its name cannot be looked up: {error}") from error

    def _proxy(self, attempt: Attempt) -> upstream_proxy.Proxy | None:
        try:
            return self._world.proxies.proxy_for(attempt.host, attempt.port, attempt.protocol or "")
        except DialError as error:
            raise Refused("failed", error.reason) from error


def at(attempt: Attempt, address: str) -> Attempt:
    return replace(attempt, address=address)


def _rank(verdict: Decided | Undecided) -> int | None:
    """None: denied."""
    action = "undecided" if isinstance(verdict, Undecided) else verdict.action
    return _BETTER.get(action)


def _peer(sock: socket.socket, addresses: list[str]) -> str:
    """As it was checked; IPv6 may be written in more than one way."""
    try:
        peer = str(sock.getpeername()[0])
    except OSError:
        return addresses[0]
    return peer if peer in addresses else addresses[0]
