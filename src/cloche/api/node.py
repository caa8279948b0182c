"""Routes of the node itself: is it well, what can this machine do, what did it log, leave."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from cloche.api.endpoint import Call, Endpoint, Nothing, Raw
from cloche.api.replies import NDJSON, Empty, Json, Lines, Reply
from cloche.engines.base import Check

MAX_LOG_LINES = 10_000


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`engine`: what "auto" means here, null when nothing is usable; doctor says why."""

    status: str
    version: str
    api_version: int
    min_api_version: int
    node_id: str
    pid: int
    home: str
    uptime_seconds: float
    engine: str | None


class EngineReport(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    usable: bool
    isolation: str
    capabilities: dict[str, Any]


class CheckLine(Check, frozen=True, kw_only=True):
    """`engine` null: a check of the machine that belongs to no engine."""

    engine: str | None = None


class Doctor(msgspec.Struct, frozen=True, kw_only=True):
    checks: list[CheckLine]
    engines: list[EngineReport]
    auto: str | None


class LogQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    lines: Annotated[int, Meta(ge=0, le=MAX_LOG_LINES)] = 200
    follow: bool = False


class Shutdown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    stop_sandboxes: bool = False


async def health(call: Call[Nothing, None]) -> Reply:
    return Json(await call.node.health())


async def doctor(call: Call[Nothing, None]) -> Reply:
    return Json(await call.node.doctor())


async def node_logs(call: Call[LogQuery, None]) -> Reply:
    return Lines(call.node.logs(lines=call.query.lines, follow=call.query.follow))


async def shut_down(call: Call[Nothing, Shutdown]) -> Reply:
    call.node.leave(stop_sandboxes=call.body.stop_sandboxes)
    return Empty(status=202)


async def openapi_document(call: Call[Nothing, None]) -> Reply:
    from cloche.api.openapi import document

    return Json(document())


ENDPOINTS = (
    Endpoint(method="GET", path="/v1/health", handler=health, answer=Health, summary="Whether the node is well"),
    Endpoint(
        method="GET",
        path="/v1/doctor",
        handler=doctor,
        answer=Doctor,
        summary="What each engine needs, found or missing",
    ),
    Endpoint(
        method="GET",
        path="/v1/openapi.json",
        handler=openapi_document,
        answer=dict[str, Any],
        summary="This description",
    ),
    Endpoint(
        method="GET",
        path="/v1/node/logs",
        handler=node_logs,
        query=LogQuery,
        answer=Raw(NDJSON),
        summary="The node's own log",
    ),
    Endpoint(
        method="POST",
        path="/v1/node/shutdown",
        handler=shut_down,
        body=Shutdown,
        status=202,
        summary="Leave; sandboxes go on unless they are to be stopped",
    ),
)
