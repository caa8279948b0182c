"""Events of the store in memory: what happened, as much of it as is kept, and who is to hear of more."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cloche.model.events import Event, EventPage, EventQuery
from cloche.model.ids import following
from cloche.store.base import EVENTS_PER_SANDBOX


class MemoryEvents:
    """Everything else that is kept tells of its changes here."""

    def __init__(self, per_sandbox: int, total: int) -> None:
        self._events: list[Event] = []
        self._per_sandbox, self._total = per_sandbox, total
        self._pruned = ""
        self._listener: Callable[[], None] | None = None

    async def add_event(self, event: Event) -> None:
        self._tell(event)

    def _tell(self, event: Event | None) -> None:
        """What a row's change has to say, in the same transaction."""
        if event is not None:
            self._add(event)

    def _add(self, event: Event) -> None:
        newest = self._newest()
        if event.id <= newest:
            event = msgspec.structs.replace(event, id=following(newest))
        events = [*self._events, event]
        mine = [known.id for known in events if known.sandbox_id == event.sandbox_id]
        dropped = set(mine[: -self._per_sandbox])
        self._events = [known for known in events if known.id not in dropped][-self._total :]
        kept = {known.id for known in self._events}
        self._pruned = max([self._pruned, *(known.id for known in events if known.id not in kept)])
        if self._listener is not None:
            self._listener()

    def _newest(self) -> str:
        return self._events[-1].id if self._events else ""

    async def history(self, project_id: str, query: EventQuery) -> EventPage:
        found = self._found(project_id, query)
        page, more = found[: query.limit], len(found) > query.limit
        cursor = page[-1].id if more else max(self._newest(), query.after)
        lost = bool(query.after) and self._pruned > query.after
        return EventPage(events=page, cursor=cursor, more=more, lost=lost)

    async def before_newest(self, project_id: str, query: EventQuery, count: int) -> str:
        found = self._found(project_id, query)
        return found[-count - 1].id if len(found) > count else query.after

    def on_event(self, listener: Callable[[], None] | None) -> None:
        self._listener = listener

    def _found(self, project_id: str, query: EventQuery) -> list[Event]:
        return [event for event in self._events if event.project_id == project_id and _wanted(event, query)]

    async def events(self, sandbox_id: str, limit: int = EVENTS_PER_SANDBOX) -> list[Event]:
        return [event for event in self._events if event.sandbox_id == sandbox_id][-limit:]


def _wanted(event: Event, query: EventQuery) -> bool:
    return (
        event.id > query.after
        and query.sandbox_id in (None, event.sandbox_id)
        and (not query.kinds or event.kind in query.kinds)
        and (query.since is None or event.at >= query.since)
    )
