"""The guest's wire for code contexts, in a fake guest: it has no interpreter of any language, and says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloche.engines.fake.http import Answer, Request, json_answer
from cloche.guest_api.contexts import ContextListing
from cloche.model.code import CodeSpec, ContextSpec
from cloche.model.errors import InterpreterMissingError, NotFoundError

if TYPE_CHECKING:
    from cloche.engines.fake.guest import FakeGuest


async def _list(guest: FakeGuest, request: Request, _: str) -> Answer:
    return json_answer(ContextListing(contexts=[], languages=[]))


async def _create(guest: FakeGuest, request: Request, _: str) -> Answer:
    spec = await request.json(ContextSpec)
    spec.check()
    raise _missing(spec.language)


async def _execute(guest: FakeGuest, request: Request, _: str) -> Answer:
    spec = await request.json(CodeSpec)
    spec.check()
    if spec.context_id is not None:
        raise NotFoundError(f"there is no context {spec.context_id}")
    raise _missing(spec.language)


async def _context(guest: FakeGuest, request: Request, context_id: str) -> Answer:
    raise NotFoundError(f"there is no context {context_id}")


async def _execution(guest: FakeGuest, request: Request, execution_id: str) -> Answer:
    raise NotFoundError(f"there is no execution {execution_id}")


def _missing(language: str) -> InterpreterMissingError:
    return InterpreterMissingError(f"a fake sandbox has no interpreter of {language}", languages=[])


_CONTEXT = r"/v1/contexts/([^/]+)"
_EXECUTION = r"/v1/executions/([^/]+)"
CONTEXT_ROUTES = [
    ("GET", "/v1/contexts", _list),
    ("POST", "/v1/contexts", _create),
    ("GET", _CONTEXT, _context),
    ("DELETE", _CONTEXT, _context),
    ("POST", _CONTEXT + "/restart", _context),
    ("POST", _CONTEXT + "/interrupt", _context),
    ("POST", "/v1/executions", _execute),
    ("GET", _EXECUTION, _execution),
    ("POST", _EXECUTION + "/interrupt", _execution),
]
