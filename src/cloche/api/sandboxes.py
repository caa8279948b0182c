"""Routes of sandboxes themselves: make, find, look at, move through their states, take away."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from cloche.api import decode
from cloche.api.endpoint import Call, Endpoint, Nothing
from cloche.api.replies import Empty, Json, Reply
from cloche.model.errors import InvalidError
from cloche.model.events import MAX_PAGE, Event, SandboxPage, SandboxQuery, SandboxStats
from cloche.model.lifecycle import STATES, State
from cloche.model.sandbox import Sandbox, SandboxSpec, check_env

MAX_GRACE_SECONDS = 3600


class Session(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for one start only and is never stored. `secrets`: values, by the names of the spec's secrets."""

    env: dict[str, str] = {}
    secrets: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Session({', '.join((*self.env, *self.secrets))})"


class CreateSandbox(SandboxSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    session: Session = Session()


class StartSandbox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    session: Session = Session()


class StopSandbox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    grace_seconds: Annotated[float, Meta(ge=0, le=MAX_GRACE_SECONDS)] = 5.0


class ExtendSandbox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From now; null: no expiry."""

    ttl_seconds: Annotated[float, Meta(gt=0, le=366 * 86400)] | None


class FindSandboxes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`label`: `key=value` or `key`, any number of times; `state`: one or more, separated by commas."""

    label: list[str] = []
    state: str | None = None
    name: str | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    cursor: str | None = None


class RemoveSandbox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    force: bool = False


class Events(msgspec.Struct, frozen=True, kw_only=True):
    events: list[Event]


async def create_sandbox(call: Call[Nothing, CreateSandbox]) -> Reply:
    asked = call.body
    check_env(asked.session.env)
    spec = SandboxSpec(**{field: getattr(asked, field) for field in SandboxSpec.__struct_fields__})
    # what was given counts against a template or a snapshot, also when it is given as it is by default
    said = decode.fields(call.incoming.body) if spec.template or spec.snapshot else None
    session = asked.session
    made = await call.services.sandboxes.create(
        spec, session_env=dict(session.env), said=said, session_secrets=dict(session.secrets)
    )
    return Json(made, status=201)


async def find_sandboxes(call: Call[FindSandboxes, None]) -> Reply:
    asked = call.query
    query = SandboxQuery(
        labels=_labels(asked.label),
        states=_states(asked.state),
        name=asked.name,
        limit=asked.limit,
        cursor=asked.cursor,
    )
    return Json(await call.services.sandboxes.find(query))


async def get_sandbox(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.sandboxes.get(call.path["ref"]))


async def remove_sandbox(call: Call[RemoveSandbox, None]) -> Reply:
    await call.services.sandboxes.remove(call.path["ref"], force=call.query.force)
    return Empty()


async def start_sandbox(call: Call[Nothing, StartSandbox]) -> Reply:
    session = call.body.session
    check_env(session.env)
    started = await call.services.sandboxes.start(
        call.path["ref"], session_env=dict(session.env), session_secrets=dict(session.secrets)
    )
    return Json(started)


async def stop_sandbox(call: Call[Nothing, StopSandbox]) -> Reply:
    return Json(await call.services.sandboxes.stop(call.path["ref"], grace_seconds=call.body.grace_seconds))


async def pause_sandbox(call: Call[Nothing, Nothing]) -> Reply:
    return Json(await call.services.sandboxes.pause(call.path["ref"]))


async def resume_sandbox(call: Call[Nothing, Nothing]) -> Reply:
    return Json(await call.services.sandboxes.resume(call.path["ref"]))


async def extend_sandbox(call: Call[Nothing, ExtendSandbox]) -> Reply:
    return Json(await call.services.sandboxes.extend(call.path["ref"], call.body.ttl_seconds))


async def sandbox_stats(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.sandboxes.stats(call.path["ref"]))


async def sandbox_events(call: Call[Nothing, None]) -> Reply:
    return Json(Events(events=await call.services.sandboxes.events(call.path["ref"])))


def _labels(given: list[str]) -> dict[str, str | None]:
    pairs = (label.partition("=") for label in given)
    return {key: value if equals else None for key, equals, value in pairs}


def _states(given: str | None) -> frozenset[State]:
    names = frozenset(given.split(",")) if given else frozenset()
    found = frozenset(state for state in STATES if state in names)
    if len(found) != len(names):
        unknown = ", ".join(sorted(names - found))
        raise InvalidError(f"state: no such state: {unknown} (there are {', '.join(STATES)})", field="state")
    return found


_ONE = "/v1/sandboxes/{ref}"
_MAKES = ("not_found", "already_exists", "unavailable_here", "no_space", "engine_failed", "limit_hit")
_MOVES = ("not_found", "wrong_state", "engine_failed", "sandbox_dead")

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/sandboxes",
        handler=create_sandbox,
        summary="Make and start a sandbox",
        body=CreateSandbox,
        answer=Sandbox,
        status=201,
        errors=_MAKES,
    ),
    Endpoint(
        method="GET",
        path="/v1/sandboxes",
        handler=find_sandboxes,
        summary="Sandboxes, oldest first",
        query=FindSandboxes,
        answer=SandboxPage,
    ),
    Endpoint(
        method="GET", path=_ONE, handler=get_sandbox, summary="One sandbox", answer=Sandbox, errors=("not_found",)
    ),
    Endpoint(
        method="DELETE",
        path=_ONE,
        handler=remove_sandbox,
        summary="Take a sandbox away with its disk",
        query=RemoveSandbox,
        status=204,
        errors=_MOVES,
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/start",
        handler=start_sandbox,
        summary="Run a stopped sandbox again",
        body=StartSandbox,
        answer=Sandbox,
        errors=(*_MOVES, "unavailable_here", "no_space"),
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/stop",
        handler=stop_sandbox,
        summary="End its processes and keep its disk",
        body=StopSandbox,
        answer=Sandbox,
        errors=_MOVES,
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/pause",
        handler=pause_sandbox,
        summary="Freeze its processes",
        body=Nothing,
        answer=Sandbox,
        errors=(*_MOVES, "unavailable_here"),
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/resume",
        handler=resume_sandbox,
        summary="Let a paused or suspended sandbox go on",
        body=Nothing,
        answer=Sandbox,
        errors=(*_MOVES, "unavailable_here", "no_space", "guest_error"),
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/extend",
        handler=extend_sandbox,
        summary="Move its expiry",
        body=ExtendSandbox,
        answer=Sandbox,
        errors=_MOVES,
    ),
    Endpoint(
        method="GET",
        path=f"{_ONE}/stats",
        handler=sandbox_stats,
        summary="What it uses now",
        answer=SandboxStats,
        errors=_MOVES,
    ),
    Endpoint(
        method="GET",
        path=f"{_ONE}/events",
        handler=sandbox_events,
        summary="What happened to it, oldest first",
        answer=Events,
        errors=("not_found",),
    ),
)
