"""Routes of engines that need something beside Cloche itself."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from msgspec import Meta

from cloche.api.endpoint import Call, Endpoint, Nothing, Raw
from cloche.api.replies import NDJSON, Json, Lines, Reply
from cloche.engines.base import Progress
from cloche.guest_api import text
from cloche.model.errors import ClocheError
from cloche.service.setup import EngineSetup

KEEPALIVE = b'{"keepalive":true}\n'
DONE = b'{"done":true}\n'
log = logging.getLogger("cloche.api")
Name = Annotated[str, Meta(pattern="^[a-z_]{1,64}$")]
Value = Annotated[str, Meta(max_length=4096)]


class SetUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`options` are the engine's own. A path names a file of the node's machine, which the node's user can read."""

    options: Annotated[dict[Name, Value], Meta(max_length=32)] = {}


class EngineSetups(msgspec.Struct, frozen=True, kw_only=True):
    engines: list[EngineSetup]


async def list_setups(call: Call[Nothing, None]) -> Reply:
    return Json(EngineSetups(engines=await call.services.setup.all()))


async def set_up_engine(call: Call[Nothing, SetUp]) -> Reply:
    said = call.services.setup.run(call.path["name"], call.body.options)
    # what is wrong from the beginning is an answer of its own, not a line of a stream that went well until then
    first = await anext(said, None)
    return Lines(_encoded(first, said))


async def _encoded(first: Progress | None, said: AsyncIterator[Progress | None]) -> AsyncIterator[bytes]:
    yield _line(first)
    try:
        async for progress in said:
            yield _line(progress)
        yield DONE
    except ClocheError as error:
        yield text.encode(error.to_json()) + b"\n"
    except Exception:
        log.exception("setup_crashed")
        failed = ClocheError("the node failed to do this; its log says why", remedy="cloche logs --node")
        yield text.encode(failed.to_json()) + b"\n"


def _line(progress: Progress | None) -> bytes:
    return KEEPALIVE if progress is None else text.encode(progress) + b"\n"


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/engines",
        handler=list_setups,
        answer=EngineSetups,
        summary="Engines that can be set up, and what they lack",
    ),
    Endpoint(
        method="POST",
        path="/v1/engines/{name}/setup",
        handler=set_up_engine,
        body=SetUp,
        answer=Raw(NDJSON),
        errors=("unavailable_here", "no_space", "engine_failed"),
        summary="Fetch and build what an engine needs; lines of progress, then done or an error",
    ),
)
