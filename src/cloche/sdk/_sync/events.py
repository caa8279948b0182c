# Made from ../_async/events.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""Lines of events that go on where they stopped, whatever happens to the node in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cloche.model.errors import TimedOutError
from cloche.model.events import Event
from cloche.sdk import wire
from cloche.sdk._sync import bridge
from cloche.sdk._sync.patience import MAX_BREAKS, pause_seconds
from cloche.sdk._sync.transport import Transport
from cloche.sdk.wire import ConnectionLostError

PATH = "/v1/events"


def stream(
    transport: Transport, asked: Mapping[str, Any], *, after: str, limit: int | None, follow: bool
) -> Iterator[Event]:
    """Events from behind `after` on; without `follow` those that have happened."""
    if follow and limit == 0 and not after:
        # from now on: if the node went away before the first event, it could not be told later where that was
        for event in _lines(transport, {**asked, "limit": 1}):
            after = event.id
        limit = None if after else 0
    breaks = 0
    while True:
        query = {**asked, "after": after or None, "limit": limit, "follow": follow}
        try:
            for event in _lines(transport, query):
                breaks, after, limit = 0, event.id, None
                yield event
            if not follow:
                return
        except (ConnectionLostError, TimedOutError):
            if breaks == MAX_BREAKS:
                raise
        breaks = min(breaks + 1, MAX_BREAKS)
        bridge.sleep(pause_seconds(breaks))


def _lines(transport: Transport, query: Mapping[str, Any]) -> Iterator[Event]:
    reply = transport.open("GET", PATH, query=query)
    try:
        for line in reply.lines():
            if b'"keepalive"' not in line[:16]:
                yield wire.decode(line, Event)
    finally:
        reply.close()
