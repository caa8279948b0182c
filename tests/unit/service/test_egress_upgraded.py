"""A row whose policy this version does not take: a preset that is gone, a rule that has come to mean nothing."""

from __future__ import annotations

import pytest

from cloche.model.egress import EgressPolicy, EgressRule
from cloche.model.errors import InvalidError
from cloche.service import door_adoption

pytestmark = pytest.mark.anyio
POLICY = EgressPolicy(rules=[EgressRule(hosts=["api.example.com"])])
OTHER = EgressPolicy(rules=[EgressRule(hosts=["b.example"])])


async def test_it_is_closed_and_says_so_and_another_policy_opens_it(place, monkeypatch):
    monkeypatch.setattr(door_adoption, "RETRY_SECONDS", 3600.0)
    made = await place.create("box", egress=POLICY)
    make = place.make

    def refusing() -> None:
        make()
        place.door.fails_next = InvalidError("there is no preset 'gone'", field="egress")

    place.make = refusing
    await place.restart()
    assert (await place.services.egress.state("box")).door == "down"
    assert place.door.attached == {}
    state = await place.services.egress.set_policy("box", OTHER)
    assert (state.door, place.door.attached[made.id].policy) == ("open", OTHER)
