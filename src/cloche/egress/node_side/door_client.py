"""The door as the node has it: what is attached and published, and what is asked of it.

All of it is kept here, in memory with the values of secrets, so that a new process is told everything before anything
else. What the door could not be told is never left as it was before: then it is started anew."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from cloche.egress.messages import (
    Answer,
    Attach,
    Counted,
    Detach,
    GivenSecret,
    Happened,
    Message,
    Publish,
    Reply,
    SetPolicy,
    Stream,
    StreamReply,
    Unpublish,
)
from cloche.egress.node_side.door_life import DoorLife, State
from cloche.egress.node_side.door_line import DoorLine
from cloche.egress.node_side.door_process import DoorSettings
from cloche.egress.node_side.ingress_port import Reachable, kept_port
from cloche.model.egress import EgressCounters, EgressPolicy
from cloche.model.errors import ClocheError, InvalidError, LimitHitError, UnavailableError

#: streams to guests that are being opened at once
MAX_OPENING = 256
log = logging.getLogger("cloche.egress")


class Listener(Protocol):
    """Told by the door, on the event loop; neither `happened` nor `counted` may wait or raise."""

    def happened(self, message: Happened) -> None: ...

    def counted(self, message: Counted) -> None: ...

    async def stream(self, sandbox_id: str) -> socket.socket: ...


class DoorClient:
    """The `Door` of service/ports.py."""

    def __init__(self, settings: DoorSettings) -> None:
        self._home = Path(settings.home)
        self._life = DoorLife(settings, self._restore, self._hear, lambda: bool(self._attached))
        self._listener: Listener | None = None
        self._attached: dict[str, Attach] = {}
        self._published: dict[tuple[str, int], Publish] = {}
        #: what a door that began was told, by sandbox
        self._telling: dict[str, tuple[int, asyncio.Future[Reply]]] = {}
        self._opening: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> State:
        return self._life.state

    @property
    def ingress_port(self) -> int:
        return self._life.ready.ingress_port if self._life.ready else kept_port(self._home)

    @property
    def pid(self) -> int | None:
        """Of the process that works now."""
        return self._life.ready.pid if self._life.ready and self._life.line else None

    def listen(self, listener: Listener) -> None:
        self._listener = listener

    def start(self) -> None:
        self._life.start()

    async def ready(self) -> str:
        await self._life.up()
        assert self._life.ready is not None
        return self._life.ready.authority_pem

    async def attach(self, attach: Attach) -> None:
        self._attached[attach.sandbox_id] = attach
        if self._life.line is not None:
            await self._do(lambda number: msgspec.structs.replace(attach, id=number))
            return
        # a door that begins is told of all that are attached
        line = await self._life.up()
        if telling := self._telling.get(attach.sandbox_id):
            await line.answer(telling[1], telling[0])

    async def set_policy(self, sandbox_id: str, policy: EgressPolicy | None, secrets: Sequence[GivenSecret]) -> None:
        known = self._attached[sandbox_id]
        self._attached[sandbox_id] = msgspec.structs.replace(known, policy=policy, secrets=list(secrets))
        line = await self._life.up()
        try:
            await self._send(
                line, lambda number: SetPolicy(id=number, sandbox_id=sandbox_id, policy=policy, secrets=list(secrets))
            )
        except LimitHitError:
            # it does not listen, and would go on with the old one
            line.close()
            raise

    async def detach(self, sandbox_id: str) -> EgressCounters | None:
        known = self._attached.pop(sandbox_id, None)
        self._life.may_rest()
        for key in [key for key in self._published if key[0] == sandbox_id]:
            del self._published[key]
        line = self._life.line
        if known is None or line is None:
            return known.counters if known else None
        try:
            last = await self._send(line, lambda number: Detach(id=number, sandbox_id=sandbox_id))
            return msgspec.convert(last, EgressCounters) if last else known.counters
        except (ClocheError, msgspec.ValidationError) as error:
            log.info("sandbox %s was not detached: %s", sandbox_id, error)
            # whatever it made of that, the next one does not know the sandbox
            line.close()
            return known.counters

    async def answer(self, ask_id: str, verdict: str) -> None:
        await self._do(lambda number: Answer(id=number, ask_id=ask_id, verdict=verdict))

    async def publish(
        self, sandbox_id: str, port: int, slug: str, address_port: int, any_host: bool = False
    ) -> Reachable:
        wanted = Publish(
            id=0, sandbox_id=sandbox_id, port=port, slug=slug, address_port=address_port, any_host=any_host
        )
        data = await self._publish(wanted)
        found = msgspec.convert(data, Reachable)
        if sandbox_id in self._attached:
            self._published[sandbox_id, port] = msgspec.structs.replace(wanted, address_port=found.address_port)
        return found

    async def _publish(self, wanted: Publish) -> dict[str, object]:
        try:
            return await self._do(lambda number: msgspec.structs.replace(wanted, id=number))
        except UnavailableError:
            raise
        except ClocheError:
            if wanted.address_port == 0:
                raise
            # somebody else has the port now
            return await self._do(lambda number: msgspec.structs.replace(wanted, id=number, address_port=0))

    async def unpublish(self, sandbox_id: str, port: int) -> None:
        line = self._life.line
        if self._published.pop((sandbox_id, port), None) is not None and line is not None:
            await self._send(line, lambda number: Unpublish(id=number, sandbox_id=sandbox_id, port=port))

    async def close(self) -> None:
        await self._life.close()
        await asyncio.gather(*self._opening, return_exceptions=True)

    async def _do(self, make: Callable[[int], Message]) -> dict[str, object]:
        return await self._send(await self._life.up(), make)

    async def _send(self, line: DoorLine, make: Callable[[int], Message]) -> dict[str, object]:
        number = line.new_id()
        return await line.answer(line.ask(make(number), number), number)

    def _restore(self, line: DoorLine) -> None:
        """All in one go, so that nothing newer can be said before."""
        self._telling.clear()
        for sandbox_id, attach in self._attached.items():
            number = line.new_id()
            try:
                reply = line.ask(msgspec.structs.replace(attach, id=number), number)
            except InvalidError as error:
                # the others are not to be without a door for that
                log.error("sandbox %s has no network: %s", sandbox_id, error)
                continue
            reply.add_done_callback(_log_failure)
            self._telling[sandbox_id] = (number, reply)
        for publish in self._published.values():
            number = line.new_id()
            line.ask(msgspec.structs.replace(publish, id=number), number).add_done_callback(_log_failure)

    def _hear(self, line: DoorLine, said: Stream | Happened | Counted) -> None:
        if isinstance(said, Stream):
            self._begin_stream(line, said)
        elif self._listener is not None and said.sandbox_id in self._attached:
            self._tell(self._listener, said)

    def _tell(self, listener: Listener, said: Happened | Counted) -> None:
        if isinstance(said, Happened):
            listener.happened(said)
            return
        known = self._attached[said.sandbox_id]
        self._attached[said.sandbox_id] = msgspec.structs.replace(known, counters=said.counters)
        listener.counted(said)

    def _begin_stream(self, line: DoorLine, said: Stream) -> None:
        if len(self._opening) >= MAX_OPENING:
            with contextlib.suppress(ClocheError):
                line.tell(StreamReply(id=said.id, error="too many streams at once"))
            return
        task = asyncio.ensure_future(self._open_stream(line, said))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_stream(self, line: DoorLine, said: Stream) -> None:
        assert self._listener is not None
        try:
            leads = await self._listener.stream(said.sandbox_id)
        except (ClocheError, OSError, TimeoutError) as error:
            reply, leads_to = StreamReply(id=said.id, error=str(error)[:500] or type(error).__name__), None
        else:
            reply, leads_to = StreamReply(id=said.id), leads
        with contextlib.suppress(ClocheError):
            line.tell(reply, leads_to)


def _log_failure(reply: asyncio.Future[Reply]) -> None:
    """What could not be told again is told at the next change at the latest."""
    if reply.cancelled() or reply.exception() is not None:
        return
    if reply.result().error is not None:
        log.error("the new door did not take a sandbox", extra={"fields": {"error": reply.result().error}})
