"""A sandbox whose guest was made before there was a door: it stays closed, and says so."""

from __future__ import annotations

import pytest

from cloche.guest_api.egress import EgressCalls
from cloche.model.egress import EgressPolicy, EgressRule
from cloche.model.errors import NotFoundError, UnavailableError

pytestmark = pytest.mark.anyio
RULE = EgressRule(hosts=["api.example.com"])
POLICY = EgressPolicy(rules=[RULE])


async def unknown(*_: object) -> None:
    raise NotFoundError("there is no such route")


@pytest.fixture
async def old(place, monkeypatch: pytest.MonkeyPatch):
    made = await place.create("box")
    with monkeypatch.context() as patch:
        patch.setattr(EgressCalls, "configure_egress", unknown)
        patch.setattr(EgressCalls, "egress_attempts", unknown)
        yield made


async def test_it_cannot_be_opened_and_nobody_says_that_it_is(place, old):
    egress = place.services.egress
    for change in (egress.set_policy("box", POLICY), egress.add_rule("box", RULE)):
        with pytest.raises(UnavailableError, match="before there was a door"):
            await change
    state = await egress.state("box")
    assert (state.policy, state.door, place.door.attached) == (None, "closed", {})


async def test_its_ports_can_be_reached(place, old):
    await place.services.publishing.publish("box", 8000)
    await place.services.egress.set_policy("box", None)
    assert old.id in place.door.attached
