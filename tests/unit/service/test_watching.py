"""Events of all sandboxes as they happen."""

import asyncio
from contextlib import aclosing

import msgspec
import pytest

from cloche.model.errors import InvalidError, NotFoundError
from cloche.model.events import EventQuery
from cloche.model.ids import new_event_id
from cloche.service.watching import KEEPALIVE_SECONDS, LOST
from cloche.store.memory import MemoryStore
from tests.unit.service.place import Place, until

pytestmark = pytest.mark.anyio


async def kinds(place, **asked):
    found = await place.services.watching.events(asked.pop("query", None), **asked)
    return [event.kind.removeprefix("sandbox.") async for event in found]


async def take(found, count):
    while count:
        count -= 1
        yield await anext(found)


@pytest.fixture
async def begun(place):
    await place.services.recover()
    return place


async def test_history_of_all(begun):
    one = await begun.create("one")
    await begun.create("two")
    await begun.services.sandboxes.pause("two")
    await begun.services.sandboxes.remove("one")
    assert await kinds(begun) == ["created", "created", "paused", "removed"]
    assert await kinds(begun, newest=2) == ["paused", "removed"]
    assert await kinds(begun, newest=0) == []
    assert await kinds(begun, sandbox="two") == ["created", "paused"]
    assert await kinds(begun, sandbox=one.id.upper().replace("SB_", "sb_")) == ["created", "removed"]
    assert await kinds(begun, query=EventQuery(kinds=frozenset({"sandbox.paused"}))) == ["paused"]
    assert await kinds(begun, project_id="other") == []


async def test_what_cannot_be_meant(begun):
    with pytest.raises(InvalidError):
        await begun.services.watching.events(EventQuery(after="yesterday"))
    for unknown in ("nobody", "sb_00000000000000000000000000"):
        with pytest.raises(NotFoundError):
            await begun.services.watching.events(sandbox=unknown)


async def test_history_becomes_present_without_loss_or_doubling(begun):
    await begun.create("one")
    seen = []

    async def follow():
        async with aclosing(await begun.services.watching.events(follow=True)) as found:
            seen.extend([event async for event in take(found, 41)])

    follower = asyncio.ensure_future(follow())
    await until(lambda: begun.services.watching._followers)
    for _ in range(20):
        await begun.services.sandboxes.pause("one")
        await begun.services.sandboxes.resume("one")
    await follower
    ids = [event.id for event in seen]
    assert ids == sorted(set(ids))
    assert not begun.services.watching._followers


async def test_silence_is_told_and_then_it_goes_on(begun):
    async with aclosing(await begun.services.watching.events(follow=True)) as found:
        first = asyncio.ensure_future(anext(found))
        await until(lambda: KEEPALIVE_SECONDS in begun.clock.asked)
        begun.clock.forward(KEEPALIVE_SECONDS)
        assert await first is None
        second = asyncio.ensure_future(anext(found))
        await begun.create("late")
        assert (await second).kind == "sandbox.created"


async def test_a_follower_that_is_too_slow_is_told_of_the_hole(tmp_path):
    store = MemoryStore(events_per_sandbox=3, events_total=8)
    async with Place(tmp_path, store) as place:
        await place.services.recover()
        await place.create("one")
        async with aclosing(await place.services.watching.events(follow=True)) as found:
            first = await anext(found)
            for _ in range(5):
                await place.services.sandboxes.pause("one")
                await place.services.sandboxes.resume("one")
            lost = await anext(found)
            assert (lost.kind, lost.id, lost.data) == (LOST, first.id, {"after": first.id})
            assert [(await anext(found)).kind for _ in range(3)] == [
                "sandbox.resumed", "sandbox.paused", "sandbox.resumed"
            ]  # fmt: skip
            again = await place.services.watching.events(EventQuery(after=lost.id))
            assert (await anext(again)).kind == LOST
            await again.aclose()


async def test_a_client_goes_on_after_a_restart(begun):
    await begun.create("one")
    (first,) = [event async for event in await begun.services.watching.events()]
    await begun.restart()
    await begun.services.sandboxes.pause("one")
    assert await kinds(begun, query=EventQuery(after=first.id)) == ["paused"]


async def test_an_event_of_no_known_kind_passes(begun):
    made = await begun.create("one")
    (first,) = [event async for event in await begun.services.watching.events()]
    odd = msgspec.structs.replace(first, id=new_event_id(), kind="pool.filled", sandbox_id=made.id, data={"a": [1]})
    await begun.store.add_event(odd)
    assert (await kinds(begun))[-1] == "pool.filled"
