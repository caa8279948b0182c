"""A sandbox that a new node has adopted, and that could not be opened at once."""

from __future__ import annotations

import asyncio

import pytest

from cloche.guest_api import Guest
from cloche.model.egress import EgressPolicy, EgressRule
from cloche.model.errors import TimedOutError
from cloche.service import door_adoption
from tests.unit.service.place import until

pytestmark = pytest.mark.anyio
POLICY = EgressPolicy(rules=[EgressRule(hosts=["api.example.com"])])


class Silence:
    """The guest answers the new node, and from then on nobody until `over`."""

    def __init__(self, monkeypatch):
        self.over, self.is_asked = asyncio.Event(), asyncio.Event()
        health, configure = Guest.health, Guest.configure_egress

        async def silent(guest, timeout_seconds=10.0):
            self.is_asked.set()
            await self.over.wait()
            return await health(guest, timeout_seconds)

        async def fails(guest, setup):
            if not self.over.is_set():
                monkeypatch.setattr(Guest, "health", silent)
                raise TimedOutError("the guest did not answer")
            await configure(guest, setup)

        monkeypatch.setattr(Guest, "configure_egress", fails)
        monkeypatch.setattr(door_adoption, "RETRY_SECONDS", 0.0)


async def test_nobody_waits_while_a_silent_guest_is_asked(place, monkeypatch):
    made = await place.create("box", egress=POLICY)
    silence = Silence(monkeypatch)
    await place.restart()
    await silence.is_asked.wait()
    assert place.services._core.locks._locks == {}
    await place.services.sandboxes.remove("box")
    assert made.id not in place.door.attached


async def test_it_is_opened_when_its_guest_answers_again(place, monkeypatch):
    made = await place.create("box", egress=POLICY)
    silence = Silence(monkeypatch)
    await place.restart()
    await silence.is_asked.wait()
    assert made.id not in place.door.attached
    silence.over.set()
    await until(lambda: made.id in place.door.attached)


async def test_what_is_done_under_the_lock_has_an_end(place, monkeypatch):
    monkeypatch.setattr(door_adoption, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(door_adoption, "ADOPT_SECONDS", 0.0)
    monkeypatch.setattr(door_adoption, "LOCKED_SECONDS", 0.01)
    await place.create("box", egress=POLICY)
    begun = asyncio.Event()

    async def never(guest, setup):
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Guest, "configure_egress", never)
    await place.restart()
    await begun.wait()
    await place.services.sandboxes.remove("box")
