"""Routes over all sandboxes: what happens, and what they use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from msgspec import Meta

from cloche.api.endpoint import Call, Endpoint, Nothing, Raw
from cloche.api.replies import NDJSON, Json, Lines, Reply
from cloche.guest_api import text
from cloche.model.events import Event, EventQuery, NodeStats

MAX_EVENTS = 100_000
KEEPALIVE = b'{"keepalive":true}\n'


class FindEvents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`after`: the id of an event; `since`: UTC seconds; `sandbox`: id, name or unique prefix, also the whole id of a
    removed one; `kind`: any number of times; `limit`: of what has happened, the newest so many."""

    follow: bool = False
    after: str = ""
    since: Annotated[float, Meta(ge=0)] | None = None
    sandbox: str | None = None
    kind: list[Annotated[str, Meta(pattern="^[a-z_.]{1,64}$")]] = []
    limit: Annotated[int, Meta(ge=0, le=MAX_EVENTS)] | None = None


async def node_events(call: Call[FindEvents, None]) -> Reply:
    asked = call.query
    query = EventQuery(after=asked.after, since=asked.since, kinds=frozenset(asked.kind))
    found = await call.services.watching.events(query, sandbox=asked.sandbox, newest=asked.limit, follow=asked.follow)
    return Lines(_encoded(found))


async def node_stats(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.statistics.all())


async def _encoded(events: AsyncIterator[Event | None]) -> AsyncIterator[bytes]:
    async for event in events:
        yield KEEPALIVE if event is None else text.encode(event) + b"\n"


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/events",
        handler=node_events,
        query=FindEvents,
        answer=Raw(NDJSON),
        errors=("not_found",),
        summary="What happened to all sandboxes, oldest first; with follow=1 what happens from then on, too",
    ),
    Endpoint(
        method="GET",
        path="/v1/stats",
        handler=node_stats,
        answer=NodeStats,
        summary="What every living sandbox uses now",
    ),
)
