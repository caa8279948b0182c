"""Routes that put a sandbox aside or make several of one: suspend and fork."""

from __future__ import annotations

import msgspec

from cloche.api.endpoint import Call, Endpoint, Nothing
from cloche.api.replies import Json, Reply
from cloche.model.sandbox import Sandbox
from cloche.model.snapshot import ForkSpec


class Forks(msgspec.Struct, frozen=True, kw_only=True):
    """The new sandboxes, in the order of their names."""

    sandboxes: list[Sandbox]


async def suspend_sandbox(call: Call[Nothing, Nothing]) -> Reply:
    return Json(await call.services.sandboxes.suspend(call.path["ref"]))


async def fork_sandbox(call: Call[Nothing, ForkSpec]) -> Reply:
    return Json(Forks(sandboxes=await call.services.forking.fork(call.path["ref"], call.body)), status=201)


_ONE = "/v1/sandboxes/{ref}"
_CAPTURES = ("not_found", "wrong_state", "unavailable_here", "no_space", "engine_failed", "sandbox_dead")

ENDPOINTS = (
    Endpoint(
        method="POST",
        path=f"{_ONE}/suspend",
        handler=suspend_sandbox,
        summary="Put its memory and disk into files, until it is resumed",
        body=Nothing,
        answer=Sandbox,
        errors=_CAPTURES,
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/fork",
        handler=fork_sandbox,
        summary="Sandboxes with the same files and processes; it goes on itself",
        body=ForkSpec,
        answer=Forks,
        status=201,
        errors=(*_CAPTURES, "already_exists", "limit_unenforceable", "guest_error"),
    ),
)
