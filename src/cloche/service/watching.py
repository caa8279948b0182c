"""Events of all sandboxes: what has happened, and what happens from now on.

A follower holds no queue. It is told only that something was written, and reads on in the store from the id that it
has read last: nothing is lost or doubled where history becomes present, and one that is slow costs no memory. What
the store has dropped before a slow follower came to it is told as an event of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from cloche.model.errors import InvalidError, NotFoundError
from cloche.model.events import DEFAULT_PROJECT, Event, EventQuery
from cloche.model.ids import is_event_id, is_sandbox_id
from cloche.service.core import Core

KEEPALIVE_SECONDS = 15.0
#: `id` is that of the last event before the hole, so that a client may go on after it
LOST = "events.lost"


class Watching:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._followers: set[asyncio.Event] = set()

    def begin(self) -> None:
        """Hear of events from now on; on the event loop that the followers are on."""
        self._core.store.on_event(self._tell)

    async def events(
        self, query: EventQuery | None = None, *, sandbox: str | None = None, newest: int | None = None,
        follow: bool = False, project_id: str = DEFAULT_PROJECT,
    ) -> AsyncIterator[Event | None]:  # fmt: skip
        """Oldest first, and with `follow` for ever; None when nothing came for 15 seconds. `newest`: of those that
        have happened only so many. Raises InvalidError (`after`, an ambiguous ref) and NotFoundError (`sandbox`)."""
        query = query or EventQuery()
        if query.after and not is_event_id(query.after):
            raise InvalidError(f"{query.after!r} is no id of an event", field="after")
        if sandbox is not None:
            query = msgspec.structs.replace(query, sandbox_id=await self._id_of(project_id, sandbox))
        after = query.after
        if newest is not None:
            after = await self._core.store.before_newest(project_id, query, newest)
        return self._read(project_id, query, after, follow)

    async def _read(self, project_id: str, query: EventQuery, after: str, follow: bool) -> AsyncIterator[Event | None]:
        woken = asyncio.Event()
        self._followers.add(woken)
        said = self._core.clock.now()
        try:
            while True:
                woken.clear()
                page = await self._core.store.history(project_id, msgspec.structs.replace(query, after=after))
                if page.lost:
                    yield self._lost(project_id, query, after)
                for event in page.events:
                    yield event
                after = page.cursor
                if page.more:
                    continue
                if not follow:
                    return
                # others' events wake this one too: silence is measured by what it has said
                now = self._core.clock.now()
                said = now if page.events else min(said, now)
                await self._core.clock.wait(woken, max(0.0, said + KEEPALIVE_SECONDS - now))
                if self._core.clock.now() - said >= KEEPALIVE_SECONDS:
                    said = self._core.clock.now()
                    yield None
        finally:
            self._followers.discard(woken)

    def _lost(self, project_id: str, query: EventQuery, after: str) -> Event:
        return Event(id=after, project_id=project_id, sandbox_id=query.sandbox_id or "", at=self._core.clock.now(),
                     kind=LOST, data={"after": after})  # fmt: skip

    def _tell(self) -> None:
        for woken in self._followers:
            woken.set()

    async def _id_of(self, project_id: str, ref: str) -> str:
        try:
            return (await self._core.resolve(project_id, ref)).sandbox.id
        except NotFoundError:
            wanted = ref.lower()
            if not is_sandbox_id(wanted):
                raise
            known = await self._core.store.history(project_id, EventQuery(sandbox_id=wanted, limit=1))
            if not known.events:
                raise
            return wanted
