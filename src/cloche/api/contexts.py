"""Routes of code contexts and of what runs in them: the guest's wire, with the host's checks on the way in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from cloche.api.endpoint import Call, Endpoint, Nothing, Raw
from cloche.api.replies import Empty, Inspector, Json, Relay, Reply
from cloche.guest_api import ContextListing
from cloche.guest_api.events import CONTENT_TYPE, EventDecoder
from cloche.model.code import MAX_CODE_BYTES, CodeSpec, ContextInfo, ContextSpec
from cloche.service.inner_ids import CONTEXT, EXECUTION

EVENTS = Raw(CONTENT_TYPE)
Seq = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
#: each byte of the code may be an escape of six in JSON
MAX_BODY_BYTES = 6 * MAX_CODE_BYTES + 4096


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`after`: the `seq` of the last event that is known already."""

    after: Seq = 0
    follow: bool = False


async def list_contexts(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.contexts.list_for(call.path["ref"]))


async def create_context(call: Call[Nothing, ContextSpec]) -> Reply:
    return Json(await call.services.contexts.create(call.path["ref"], call.body), status=201)


async def get_context(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.contexts.get(call.path["ref"], _context_id(call.path)))


async def restart_context(call: Call[Nothing, Nothing]) -> Reply:
    return Json(await call.services.contexts.restart(call.path["ref"], _context_id(call.path)))


async def interrupt_context(call: Call[Nothing, Nothing]) -> Reply:
    await call.services.contexts.interrupt(call.path["ref"], _context_id(call.path))
    return Empty()


async def remove_context(call: Call[Nothing, None]) -> Reply:
    await call.services.contexts.remove(call.path["ref"], _context_id(call.path))
    return Empty()


async def execute_code(call: Call[Nothing, CodeSpec]) -> Reply:
    call.body.check()
    exchange = call.services.contexts.execute(call.path["ref"], call.body)
    return Relay(exchange, event_inspector(None), ends_with_node=True, in_lines=True)


async def execution_events(call: Call[EventsQuery, None]) -> Reply:
    query = call.query
    exchange = call.services.contexts.events(
        call.path["ref"], _execution_id(call.path), after=query.after, follow=query.follow
    )
    return Relay(exchange, event_inspector(query.after), ends_with_node=query.follow, in_lines=True)


async def interrupt_execution(call: Call[Nothing, Nothing]) -> Reply:
    await call.services.contexts.interrupt_execution(call.path["ref"], _execution_id(call.path))
    return Empty()


def event_inspector(after: int | None) -> Inspector:
    """Refuses a stream of events at the first thing that the wire does not allow."""
    decoder = EventDecoder(after=after)

    def inspect(chunk: bytes) -> None:
        decoder.feed(chunk)
        if not chunk:
            decoder.finish()

    return inspect


def _context_id(path: Mapping[str, str]) -> str:
    return CONTEXT.checked(path["cid"], path["ref"])


def _execution_id(path: Mapping[str, str]) -> str:
    return EXECUTION.checked(path["xid"], path["ref"])


_BOX = "/v1/sandboxes/{ref}"
_CONTEXT = f"{_BOX}/contexts/{{cid}}"
_EXECUTION = f"{_BOX}/executions/{{xid}}"
_USES = ("not_found", "wrong_state", "sandbox_dead", "guest_error", "timed_out")
_STARTS = (*_USES, "interpreter_missing", "limit_hit")

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{_BOX}/contexts",
        handler=list_contexts,
        answer=ContextListing,
        errors=_USES,
        summary="Contexts, oldest first, and the languages that the image has",
    ),
    Endpoint(
        method="POST",
        path=f"{_BOX}/contexts",
        handler=create_context,
        body=ContextSpec,
        answer=ContextInfo,
        status=201,
        errors=_STARTS,
        summary="Start an interpreter that keeps its state",
    ),
    Endpoint(method="GET", path=_CONTEXT, handler=get_context, answer=ContextInfo, errors=_USES, summary="One context"),
    Endpoint(
        method="DELETE",
        path=_CONTEXT,
        handler=remove_context,
        status=204,
        errors=_USES,
        summary="Kill it with everything that it started",
    ),
    Endpoint(
        method="POST",
        path=f"{_CONTEXT}/restart",
        handler=restart_context,
        body=Nothing,
        answer=ContextInfo,
        errors=_STARTS,
        summary="A new interpreter under the same id",
    ),
    Endpoint(
        method="POST",
        path=f"{_CONTEXT}/interrupt",
        handler=interrupt_context,
        body=Nothing,
        status=204,
        errors=_USES,
        summary="Interrupt what runs in it; its state stays",
    ),
    Endpoint(
        method="POST",
        path=f"{_BOX}/executions",
        handler=execute_code,
        body=CodeSpec,
        body_limit_bytes=MAX_BODY_BYTES,
        answer=EVENTS,
        errors=_STARTS,
        summary="Run code in a context and follow its events",
    ),
    Endpoint(
        method="GET",
        path=_EXECUTION,
        handler=execution_events,
        query=EventsQuery,
        answer=EVENTS,
        errors=_USES,
        summary="Events of an execution after any of them",
    ),
    Endpoint(
        method="POST",
        path=f"{_EXECUTION}/interrupt",
        handler=interrupt_execution,
        body=Nothing,
        status=204,
        errors=_USES,
        summary="Interrupt it, or take it out of the queue",
    ),
)
