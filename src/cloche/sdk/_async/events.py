"""Lines of events that go on where they stopped, whatever happens to the node in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from cloche.model.errors import TimedOutError
from cloche.model.events import Event
from cloche.sdk import wire
from cloche.sdk._async import bridge
from cloche.sdk._async.patience import MAX_BREAKS, pause_seconds
from cloche.sdk._async.transport import AsyncTransport
from cloche.sdk.wire import ConnectionLostError

PATH = "/v1/events"


async def stream(
    transport: AsyncTransport, asked: Mapping[str, Any], *, after: str, limit: int | None, follow: bool
) -> AsyncIterator[Event]:
    """Events from behind `after` on; without `follow` those that have happened."""
    if follow and limit == 0 and not after:
        # from now on: if the node went away before the first event, it could not be told later where that was
        async for event in _lines(transport, {**asked, "limit": 1}):
            after = event.id
        limit = None if after else 0
    breaks = 0
    while True:
        query = {**asked, "after": after or None, "limit": limit, "follow": follow}
        try:
            async for event in _lines(transport, query):
                breaks, after, limit = 0, event.id, None
                yield event
            if not follow:
                return
        except (ConnectionLostError, TimedOutError):
            if breaks == MAX_BREAKS:
                raise
        breaks = min(breaks + 1, MAX_BREAKS)
        await bridge.sleep(pause_seconds(breaks))


async def _lines(transport: AsyncTransport, query: Mapping[str, Any]) -> AsyncIterator[Event]:
    reply = await transport.open("GET", PATH, query=query)
    try:
        async for line in reply.lines():
            if b'"keepalive"' not in line[:16]:
                yield wire.decode(line, Event)
    finally:
        await reply.aclose()
