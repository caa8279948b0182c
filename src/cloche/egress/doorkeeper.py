"""Answers the node: which sandboxes there are, what they may, which of their ports are published."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cloche.egress.auditing.audit import AuditWriter
from cloche.egress.auditing.news import EVENTS_OF_ALL_PER_SECOND, EventPace
from cloche.egress.control import Control, leave
from cloche.egress.inner.guest_streams import Connect, at_socket
from cloche.egress.inner.guests import Guest, Guests
from cloche.egress.inner.node_streams import NodeStreams
from cloche.egress.inward.ingress import Ingress
from cloche.egress.inward.published import Visit
from cloche.egress.messages import (
    Answer,
    Attach,
    Detach,
    FromNode,
    Publish,
    Ready,
    Reply,
    SetPolicy,
    Setup,
    StreamReply,
    Unpublish,
)
from cloche.egress.outward.own_addresses import OwnAddresses
from cloche.egress.outward.resolve import Resolver
from cloche.egress.outward.upstream_proxy import UpstreamProxies
from cloche.egress.tls.trusted import certificate_pem
from cloche.egress.world import Inspects, World
from cloche.model.errors import ClocheError, InvalidError, NotFoundError

if TYPE_CHECKING:
    from cloche.egress.tls.authority import Authority

LAST_WORDS_SECONDS = 0.5

log = logging.getLogger(__name__)


class Doorkeeper:
    """Answers the node. What takes time runs in a task, the rest at once and in order."""

    def __init__(self, control_socket: socket.socket) -> None:
        self._control = Control(control_socket, self._received, self._last_words)
        self._audit: AuditWriter | None = None
        self._guests = Guests()
        self._world: World | None = None
        self._tasks: set[asyncio.Future[object]] = set()
        self._streams = NodeStreams(self._control.send)
        self._ingress = Ingress(self._way_to, self._visited)

    def _received(self, message: FromNode, descriptors: list[int]) -> None:
        if isinstance(message, StreamReply):
            self._streams.replied(message, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(message, Setup):
            self._begin(message)
        else:
            self._asked(message)

    def _begin(self, setup: Setup) -> None:
        try:
            self._setup(setup)
        except Exception:
            log.exception("the door cannot begin")
            leave(1)

    def _setup(self, setup: Setup) -> None:
        home = Path(setup.home)
        self._audit = AuditWriter(str(home / "audit"))
        self._world = World(
            resolver=Resolver(setup.resolver),
            proxies=UpstreamProxies(),
            own=OwnAddresses(),
            audit=self._audit,
            pace=EventPace(per_second=EVENTS_OF_ALL_PER_SECOND),
            inspector=_inspector(home, setup.upstream_authorities),
            tell=self._control.send,
            neighbours=self._guests.neighbour,
        )
        port = self._ingress.start(setup.ingress_port)
        pem = certificate_pem(home) or _authority(home).pem
        self._control.send(Ready(pid=os.getpid(), ingress_port=port, authority_pem=pem))

    def _last_words(self) -> None:
        """What is decided already is written down, if the disk is quick."""
        if self._audit is not None:
            self._audit.close(LAST_WORDS_SECONDS)

    def _asked(self, message: Attach | SetPolicy | Detach | Answer | Publish | Unpublish) -> None:
        try:
            answer = self._carry_out(message)
        except Exception as error:
            self._failed(message.id, error)
            return
        if isinstance(answer, dict):
            self._control.send(Reply(id=message.id, data=answer))
        else:
            self._in_task(message.id, answer)

    def _carry_out(
        self, message: Attach | SetPolicy | Detach | Answer | Publish | Unpublish
    ) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        if isinstance(message, Attach):
            return self._attach(message)
        if isinstance(message, SetPolicy):
            return self._set_policy(message)
        if isinstance(message, Detach):
            return self._detach(message)
        if isinstance(message, Answer):
            return self._answer(message)
        return self._publish(message) if isinstance(message, Publish) else self._unpublish(message)

    def _attach(self, message: Attach) -> dict[str, Any]:
        if self._world is None:
            raise InvalidError("the door was not set up")
        connect = at_socket(message.socket) if message.socket else self._streams.to(message.sandbox_id)
        before = self._guests.add(Guest(message, connect, self._world))
        if before is not None:
            self._guests.review_neighbours(before)
            self._spawn(before.end())
        return {}

    def _set_policy(self, message: SetPolicy) -> dict[str, Any]:
        guest = self._guests.get(message.sandbox_id)
        if guest is None:
            raise NotFoundError(f"the door does not know {message.sandbox_id}")
        guest.attached.set_policy(message.policy, message.secrets)
        self._guests.review_neighbours(guest)
        guest.begin()
        return {}

    async def _detach(self, message: Detach) -> dict[str, Any]:
        guest = self._guests.remove(message.sandbox_id)
        if guest is not None:
            self._guests.review_neighbours(guest)
        try:
            await self._ingress.leave(message.sandbox_id)
        finally:
            # nobody else knows it any more
            last = None if guest is None else await guest.end()
        return {} if last is None else dict(msgspec.to_builtins(last))

    def _answer(self, message: Answer) -> dict[str, Any]:
        if not self._guests.answer(message.ask_id, message.verdict):
            raise NotFoundError("nobody waits for that answer any more")
        return {}

    async def _publish(self, message: Publish) -> dict[str, Any]:
        address_port = await self._ingress.publish(
            message.sandbox_id, message.port, message.slug, message.address_port, message.any_host
        )
        return {"ingress_port": self._ingress.port, "address_port": address_port}

    async def _unpublish(self, message: Unpublish) -> dict[str, Any]:
        await self._ingress.unpublish(message.sandbox_id, message.port)
        return {}

    def _way_to(self, sandbox_id: str) -> Connect | None:
        guest = self._guests.get(sandbox_id)
        return None if guest is None else guest.connect

    def _visited(self, visit: Visit) -> None:
        """Somebody on this machine has used a published port."""
        guest = self._guests.get(visit.entry.sandbox_id)
        if guest is not None:
            guest.attached.log(visit.line(guest.attached.name))

    def _in_task(self, number: int, answer: Awaitable[dict[str, Any]]) -> None:
        async def reply() -> None:
            try:
                self._control.send(Reply(id=number, data=await answer))
            except Exception as error:
                self._failed(number, error)

        self._spawn(reply())

    def _spawn(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _failed(self, number: int, error: Exception) -> None:
        if not isinstance(error, ClocheError):
            log.error("a request of the node failed", exc_info=error)
            error = ClocheError(f"the door failed: {type(error).__name__}")
        self._control.send(Reply(id=number, error=error.to_json()))


def _authority(home: Path) -> Authority:
    from cloche.egress.tls.authority import Authority

    return Authority.open(home)


def _inspector(home: Path, upstream_authorities: str | None) -> Callable[[], Inspects]:
    """Made when it is needed for the first time: most doors never end anybody's TLS."""

    @functools.cache
    def inspector() -> Inspects:
        from cloche.egress.tls.inspect import Inspector

        return Inspector(_authority(home), upstream_authorities)

    return inspector
