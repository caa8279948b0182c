"""Published ports over the life of a sandbox, with an engine and a door in memory."""

from __future__ import annotations

import pytest

from cloche.model.egress import EgressPolicy
from cloche.model.errors import (
    EngineError,
    InvalidError,
    LimitHitError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)
from cloche.model.snapshot import ForkSpec
from cloche.service import publishing
from cloche.service.publishing import slug_of
from tests.unit.service.fake_door import INGRESS

pytestmark = pytest.mark.anyio


async def test_a_port_has_a_url_and_an_address(place):
    made = await place.create("box")
    found = await place.services.publishing.publish("box", 8000)
    assert found.url == f"http://{slug_of(made.id, 8000)}.localhost:{INGRESS}"
    assert found.address == "127.0.0.1:40201"
    assert place.door.attached[made.id].policy is None
    assert (await place.services.publishing.find("box")).publications == [found]
    assert (await place.services.sandboxes.events("box"))[-1].data["url"] == found.url


async def test_again_is_the_same(place):
    made = await place.create("box")
    first = await place.services.publishing.publish("box", 8000)
    assert await place.services.publishing.publish("box", 8000) == first
    kinds = [event.kind for event in await place.services.sandboxes.events(made.id)]
    assert kinds.count("sandbox.published") == 1


async def test_any_host_stays_until_it_is_changed(place):
    made = await place.create("box")
    publish = place.services.publishing.publish
    assert [(await publish("box", 8000, any_host=word)).any_host for word in (None, True, None)] == [False, True, True]
    assert place.door.any_host == {(made.id, 8000)}
    await place.services.sandboxes.stop("box", grace_seconds=0)
    place.door.any_host.clear()
    await place.services.sandboxes.start("box")
    assert place.door.any_host == {(made.id, 8000)}
    assert not (await publish("box", 8000, any_host=False)).any_host
    assert place.door.any_host == set()


async def test_it_ends(place):
    made = await place.create("box")
    await place.services.publishing.publish("box", 8000)
    await place.services.publishing.unpublish("box", 8000)
    assert (place.door.published, place.door.attached) == ({}, {})
    with pytest.raises(NotFoundError):
        await place.services.publishing.unpublish("box", 8000)
    assert (await place.services.sandboxes.events(made.id))[-1].kind == "sandbox.unpublished"


async def test_one_of_several_ends_and_a_policy_stays(place):
    made = await place.create("box", egress=EgressPolicy())
    await place.services.publishing.publish("box", 8000)
    await place.services.publishing.publish("box", 8001)
    await place.services.publishing.unpublish("box", 8000)
    assert place.door.published.keys() == {(made.id, 8001)}
    await place.services.publishing.unpublish("box", 8001)
    assert place.door.attached.keys() == {made.id}


async def test_to_close_a_published_one_leaves_its_ports(place):
    made = await place.create("box", egress=EgressPolicy())
    await place.services.publishing.publish("box", 8000)
    await place.services.egress.set_policy("box", None)
    assert place.door.attached[made.id].policy is None
    assert place.door.published.keys() == {(made.id, 8000)}


async def test_url_and_address_stay_over_a_stop(place):
    made = await place.create("box")
    before = await place.services.publishing.publish("box", 8000)
    await place.services.sandboxes.stop("box", grace_seconds=0)
    assert place.door.published == {}
    with pytest.raises(WrongStateError):
        await place.services.publishing.publish("box", 8001)
    await place.services.sandboxes.start("box")
    assert place.door.published.keys() == {(made.id, 8000)}
    assert (await place.services.publishing.find("box")).publications == [before]


async def test_url_and_address_stay_over_a_new_node(place):
    made = await place.create("box")
    before = await place.services.publishing.publish("box", 8000)
    await place.restart()
    assert place.door.published[made.id, 8000].address_port == 40201
    assert (await place.services.publishing.find("box")).publications == [before]


async def test_an_address_that_somebody_has_taken_is_another_one(place):
    await place.create("box")
    await place.services.publishing.publish("box", 8000)
    await place.services.sandboxes.stop("box", grace_seconds=0)
    place.door.taken_ports.add(40201)
    await place.services.sandboxes.start("box")
    (now,) = (await place.services.publishing.find("box")).publications
    assert now.address == "127.0.0.1:40202"


async def test_without_a_door_nothing_is_published(place):
    await place.create("box")
    place.door.broken = True
    with pytest.raises(UnavailableError):
        await place.services.publishing.publish("box", 8000)
    assert (await place.services.publishing.find("box")).publications == []


async def test_what_the_door_refuses_is_not_published_and_not_attached(place):
    await place.create("box")

    async def refuses(*_):
        raise EngineError("no")

    place.door.publish = refuses
    with pytest.raises(EngineError):
        await place.services.publishing.publish("box", 8000)
    assert ((await place.services.publishing.find("box")).publications, place.door.attached) == ([], {})


async def test_one_that_the_door_does_not_take_is_offered_to_it_again(place):
    made = await place.create("box")
    place.door.fails_next = EngineError("no")
    with pytest.raises(EngineError):
        await place.services.publishing.publish("box", 8000)
    assert place.door.attached == {}
    await place.services.publishing.publish("box", 8000)
    assert (made.id in place.door.attached, (made.id, 8000) in place.door.published) == (True, True)


async def test_ports_that_are_none_and_too_many(place, monkeypatch):
    monkeypatch.setattr(publishing, "MAX_PORTS", 1)
    await place.create("box")
    for port in (0, 65536, -1):
        with pytest.raises(InvalidError):
            await place.services.publishing.publish("box", port)
    await place.services.publishing.publish("box", 1)
    with pytest.raises(LimitHitError):
        await place.services.publishing.publish("box", 2)


async def test_a_fork_publishes_nothing(place):
    made = await place.create("box")
    await place.services.publishing.publish("box", 8000)
    (child,) = await place.services.forking.fork("box", ForkSpec())
    assert (await place.services.publishing.find(child.id)).publications == []
    assert place.door.attached.keys() == {made.id}


async def test_nothing_stays_of_a_removed_one(place):
    made = await place.create("box")
    await place.services.publishing.publish("box", 8000)
    await place.services.sandboxes.remove("box", force=True)
    assert (place.door.published, await place.store.ports(made.id)) == ({}, [])
