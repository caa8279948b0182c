"""All sandboxes of the door: each with its link, found by id for the node and by name for its neighbours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from cloche.egress.asks import Outcome
from cloche.egress.connection import Connection, Refused, refused_by_limit
from cloche.egress.deciding import names
from cloche.egress.deciding.attempt import Attempt
from cloche.egress.hooks import LimitHit
from cloche.egress.inner import guest_words, refused_inside
from cloche.egress.inner.attached import Attached
from cloche.egress.inner.entrance import Entrance
from cloche.egress.inner.guest_streams import Connect, dial_port
from cloche.egress.inner.guest_words import Head
from cloche.egress.inner.link import Link
from cloche.egress.inner.proxy_port import ProxyClient
from cloche.egress.inner.questions import Questions
from cloche.egress.messages import Attach
from cloche.egress.outlet import Outlet
from cloche.egress.outward.sockets import SocketStream
from cloche.egress.outward.way_out import NEIGHBOURS
from cloche.egress.world import World
from cloche.model.egress import EgressCounters

DETACH_SECONDS = 2.0
#: the range whose addresses stand for names, inside
_STANDS_FOR_NAMES = ("198.18.", "198.19.")
_OUTCOMES: dict[str, Outcome] = {"once": "once", "always": "always", "deny": "deny"}

log = logging.getLogger(__name__)


class Guest:
    """One sandbox: what it may (attached), and the streams to it. `begin` starts the link."""

    def __init__(self, attach: Attach, connect: Connect, world: World) -> None:
        self.attached = Attached(attach, world)
        self.connect = connect
        self._link = Link(connect, self._serve, self._heard)
        self._questions = Questions(self.attached, self._link.say)
        self._running: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """A sandbox that is only published needs no link."""
        if self._running is None and self.attached.compiled is not None:
            self._running = asyncio.ensure_future(self._link.run())
            self._running.add_done_callback(_log_failure)

    async def end(self) -> EgressCounters:
        self._questions.close()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait((self._running,), timeout=DETACH_SECONDS)
        self.attached.close()
        return self.attached.counters()

    def accepts(self, sandbox: str | None, port: int) -> bool:
        return self.attached.accepts(sandbox, port)

    async def dial(self, port: int) -> SocketStream:
        """To a port inside. Raises DialError."""
        return await dial_port(self.connect, port)

    async def _heard(self, word: guest_words.FromGuest) -> None:
        if isinstance(word, guest_words.Refused):
            refused_inside.write(self.attached, word)
        else:
            await self._questions.heard(word)

    async def _serve(self, stream: SocketStream, head: Head) -> None:
        entrance = Entrance(stream, head.via if head.kind == "connect" else "proxy", self.attached.called)
        if head.kind == "proxy":
            await stream.write(guest_words.framed({"ok": True}))
        try:
            self.attached.begin()
        except LimitHit as hit:
            await self._refuse(entrance, head, refused_by_limit(hit))
            return
        try:
            await self._carry(stream, head, entrance)
        finally:
            self.attached.end()

    async def _carry(self, stream: SocketStream, head: Head, entrance: Entrance) -> None:
        host, port, leading = head.host, head.port, b""
        if head.kind == "proxy":
            nowhere = Attempt(host="", is_address=False, port=0)
            tunnel = await ProxyClient(stream, self._connection(head, nowhere)).until_tunnel()
            if tunnel is None:
                return
            host, port, leading = tunnel.host, tunnel.port, tunnel.leading
        stream.give_back(leading)
        try:
            attempt = await self._attempt(host, port)
        except ValueError as error:
            await self._refuse(entrance, head, Refused("denied", f"no host: {error}"), host, port)
            return
        await Outlet(self._connection(head, attempt), entrance).run()

    async def _attempt(self, host: str, port: int) -> Attempt:
        """Raises ValueError."""
        read = names.read_host(host)
        if read.is_address and read.text.startswith(_STANDS_FOR_NAMES):
            name = await self._questions.name_of(read.text)
            read = names.Host(names.normalise(name), False) if name is not None else read
        address = read.text if read.is_address else None
        return Attempt(host=read.text, is_address=read.is_address, port=port, address=address)

    def _connection(self, head: Head, attempt: Attempt) -> Connection:
        via: str = head.via if head.kind == "connect" else "proxy"
        if attempt.host.endswith(NEIGHBOURS):
            via = "sandbox"
        return Connection(self.attached, via, attempt, head.pid, head.process)

    async def _refuse(self, entrance: Entrance, head: Head, refused: Refused, host: str = "", port: int = 0) -> None:
        """Before there is anything to be decided."""
        attempt = Attempt(host=(host or head.host)[: names.MAX_NAME], is_address=False, port=port or head.port)
        line = self._connection(head, attempt).line(refused.verdict, refused.reason, refused.rule or "bad name")
        self.attached.write(line)
        await entrance.refuse(refused, attempt.host, attempt.port)


class Guests:
    def __init__(self) -> None:
        self._by_id: dict[str, Guest] = {}

    def get(self, sandbox_id: str) -> Guest | None:
        return self._by_id.get(sandbox_id)

    def neighbour(self, project: str, name: str) -> Guest | None:
        """None also where two differ in their case only: neither gets what is meant for the other."""
        found = [guest for guest in self._of_project(project) if (guest.attached.name or "").lower() == name]
        return found[0] if len(found) == 1 else None

    def review_neighbours(self, changed: Guest) -> None:
        """Others may be connected to this one, which accepts others than before, or nobody any more."""
        for guest in self._of_project(changed.attached.project):
            for connection in list(guest.attached.connections):
                connection.review_neighbour()

    def _of_project(self, project: str) -> Iterator[Guest]:
        return (guest for guest in self._by_id.values() if guest.attached.project == project)

    def add(self, guest: Guest) -> Guest | None:
        """Returns the one that was there."""
        before = self._by_id.get(guest.attached.id)
        self._by_id[guest.attached.id] = guest
        guest.begin()
        return before

    def remove(self, sandbox_id: str) -> Guest | None:
        return self._by_id.pop(sandbox_id, None)

    def answer(self, ask_id: str, verdict: str) -> bool:
        outcome = _OUTCOMES.get(verdict)
        return outcome is not None and any(
            guest.attached.asks.answer(ask_id, outcome) for guest in self._by_id.values()
        )


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("the link to a guest has failed", exc_info=task.exception())
