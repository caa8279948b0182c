"""What the door tells: events of sandboxes, questions to people, counters. Nobody is made to wait by it.

Code in a sandbox decides how often it is refused, so what is told is bounded, and dropped when the store is slower."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from cloche.egress.messages import Counted, Happened
from cloche.model.egress import Ask
from cloche.model.errors import ClocheError
from cloche.service.core import Core
from cloche.service.door_streams import DoorStreams

#: events that wait for the store
MAX_WAITING = 512
MAX_EVENT_BYTES = 8 << 10
MAX_ASKS = 1024
#: how long counters are only in memory
KEEP_SECONDS = 5.0
KINDS = frozenset({"egress_denied", "egress_ask", "egress_limit", "egress_revoked", "egress_secret"})
log = logging.getLogger("cloche.service")


class Asks:
    """Connections that wait for somebody's answer, the oldest first."""

    def __init__(self) -> None:
        self._asks: dict[str, Ask] = {}

    def add(self, ask: Ask) -> None:
        """The oldest goes when there are too many; the door ends it by itself."""
        if len(self._asks) >= MAX_ASKS:
            del self._asks[next(iter(self._asks))]
        self._asks[ask.id] = ask

    def of(self, sandbox_id: str, now: float) -> list[Ask]:
        self._asks = {ask.id: ask for ask in self._asks.values() if ask.expires_at > now}
        return [ask for ask in self._asks.values() if ask.sandbox_id == sandbox_id]

    def take(self, sandbox_id: str, ask_id: str, now: float) -> Ask | None:
        ask = next((ask for ask in self.of(sandbox_id, now) if ask.id == ask_id), None)
        if ask is not None:
            del self._asks[ask_id]
        return ask


class EgressEvents:
    """The door's listener. `used` is called with the id of a sandbox whose traffic has gone on."""

    def __init__(self, core: Core, used: Callable[[str], None]) -> None:
        self._core, self._used = core, used
        self.asks = Asks()
        self.dropped = 0
        self._streams = DoorStreams(core)
        self._waiting: asyncio.Queue[Happened] = asyncio.Queue(MAX_WAITING)
        self._changed: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def happened(self, message: Happened) -> None:
        if message.kind not in KINDS or len(msgspec.json.encode(message.data)) > MAX_EVENT_BYTES:
            self.dropped += 1
            return
        if message.kind == "egress_ask":
            with contextlib.suppress(msgspec.ValidationError):
                ask = msgspec.convert(message.data, Ask)
                self.asks.add(msgspec.structs.replace(ask, sandbox_id=message.sandbox_id))
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.dropped += 1
        self._run("events", self._write_events)

    def counted(self, message: Counted) -> None:
        sandbox_id = message.sandbox_id
        if self._core.door.counted(sandbox_id, message.counters):
            self._used(sandbox_id)
            self._changed.add(sandbox_id)
            self._run("counters", self._keep_counters)

    async def stream(self, sandbox_id: str) -> socket.socket:
        return await self._streams.open(sandbox_id)

    async def close(self) -> None:
        """What waits is written, as far as the store takes it."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        while not self._waiting.empty():
            await self._write(self._waiting.get_nowait())
        await self._streams.close()

    def _run(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """One task of that name, for as long as there is something to do."""
        if name not in self._tasks or self._tasks[name].done():
            self._tasks[name] = asyncio.ensure_future(work())

    async def _write_events(self) -> None:
        while not self._waiting.empty():
            await self._write(self._waiting.get_nowait())
        if self.dropped:
            log.warning("%d events of the door were dropped", self.dropped)
            self.dropped = 0

    async def _write(self, message: Happened) -> None:
        with contextlib.suppress(ClocheError):
            record = await self._core.store.get(message.sandbox_id)
            if record is not None:
                await self._core.store.add_event(self._core.event(record, message.kind, **_named(message.data)))

    async def _keep_counters(self) -> None:
        await asyncio.sleep(KEEP_SECONDS)
        changed, self._changed = self._changed, set()
        with contextlib.suppress(ClocheError):
            await self._core.door.keep(changed)


def _named(data: dict[str, object]) -> dict[str, object]:
    """`record` and `kind` are the names of what an event is made with."""
    return {key: value for key, value in data.items() if key not in ("record", "kind", "self")}
