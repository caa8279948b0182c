"""The guest's wire for the inner end of the door, for a fake guest: it remembers what it was told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cloche.engines.fake.guest import FakeGuest
from cloche.engines.fake.http import Answer, Request, json_answer
from cloche.guest_api.egress import EgressSetup
from cloche.model.errors import UnavailableError

Route = Callable[[FakeGuest, Request, str], Awaitable[Answer]]


class EgressBody(EgressSetup, frozen=True, forbid_unknown_fields=True):
    pass


async def _configure(guest: FakeGuest, request: Request, _: str) -> Answer:
    guest.egress = await request.json(EgressBody)
    return Answer(204)


async def _attempts(guest: FakeGuest, request: Request, _: str) -> Answer:
    return json_answer({"attempts": guest.attempts})


async def _door(guest: FakeGuest, request: Request, _: str) -> Answer:
    raise UnavailableError("nothing in a fake sandbox connects to anything, so no door has anything to do there")


EGRESS_ROUTES: list[tuple[str, str, Route]] = [
    ("PUT", "/v1/egress", _configure),
    ("GET", "/v1/egress/attempts", _attempts),
    ("POST", "/v1/door", _door),
]
