"""The route of connections into a sandbox, which clients forward local ports over."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from cloche.api.endpoint import Call, Endpoint
from cloche.api.replies import Reply
from cloche.api.tunnel import Tunnel


class DialQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either `port` (on `host`, by default its loopback) or `unix`, the path of a socket inside."""

    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    host: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    unix: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None


async def dial(call: Call[DialQuery, None]) -> Reply:
    asked = call.query
    opening = call.services.dialing.open(call.path["ref"], port=asked.port, host=asked.host, unix=asked.unix)
    return Tunnel(opening)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/sandboxes/{ref}/dial",
        handler=dial,
        query=DialQuery,
        status=101,
        errors=("not_found", "wrong_state", "sandbox_dead", "guest_error", "timed_out", "limit_hit"),
        summary="A connection to a port or unix socket inside, as an upgrade to cloche-stream: raw bytes, half-close",
    ),
)
