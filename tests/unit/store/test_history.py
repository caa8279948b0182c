"""Events page by page: in the order in which they were written, whatever the clock says, with holes told of."""

import asyncio

import msgspec
import pytest

from cloche.model.events import EventQuery
from cloche.model.ids import following, is_event_id, new_event_id
from cloche.store.sqlite import SqliteStore
from tests.unit.store.test_store import event_for, record, store

pytestmark = pytest.mark.anyio
__all__ = ["store"]


async def fill(store, count, row=None, **values):
    row = row or record()
    for number in range(count):
        await store.add_event(msgspec.structs.replace(event_for(row, number=number), **values))
    return row


async def numbers(store, query, project="default"):
    return [event.data["number"] for event in (await store.history(project, query)).events]


async def test_pages_are_in_order_and_end(store):
    await fill(store, 5)
    first = await store.history("default", EventQuery(limit=2))
    assert [event.data["number"] for event in first.events] == [0, 1]
    assert first.more and not first.lost
    rest = await store.history("default", EventQuery(after=first.cursor, limit=3))
    assert [event.data["number"] for event in rest.events] == [2, 3, 4]
    assert not rest.more
    assert await numbers(store, EventQuery(after=rest.cursor)) == []


async def test_filters(store):
    one = await fill(store, 2)
    await fill(store, 1, at=99.0, kind="sandbox.paused")
    await fill(store, 1, project_id="other")
    assert await numbers(store, EventQuery(sandbox_id=one.sandbox.id)) == [0, 1]
    assert await numbers(store, EventQuery(kinds=frozenset({"sandbox.paused"}))) == [0]
    assert await numbers(store, EventQuery(since=50.0)) == [0]
    assert await numbers(store, EventQuery(), "other") == [0]
    assert await numbers(store, EventQuery(), "nobody") == []


async def test_a_cursor_moves_past_what_does_not_match(store):
    await fill(store, 3)
    page = await store.history("default", EventQuery(kinds=frozenset({"sandbox.removed"})))
    assert page.events == [] and is_event_id(page.cursor)
    assert await numbers(store, EventQuery(after=page.cursor)) == []


async def test_the_newest_only(store):
    await fill(store, 4)
    after = await store.before_newest("default", EventQuery(), 2)
    assert await numbers(store, EventQuery(after=after)) == [2, 3]
    assert await numbers(store, EventQuery(after=await store.before_newest("default", EventQuery(), 0))) == []
    assert await numbers(store, EventQuery(after=await store.before_newest("default", EventQuery(), 9))) == [0, 1, 2, 3]


async def test_ids_follow_the_writes_when_the_clock_goes_back(store):
    row = record()
    late, early = event_for(row, number=1), event_for(row, number=2)
    await store.add_event(msgspec.structs.replace(late, id="ev_7" + "z" * 24 + "0"))
    await store.add_event(msgspec.structs.replace(early, id=new_event_id()))
    assert await numbers(store, EventQuery()) == [1, 2]
    assert await numbers(store, EventQuery(after="ev_7" + "z" * 24 + "0")) == [2]


async def test_they_do_so_over_a_restart(tmp_path):
    first = await SqliteStore.open(tmp_path / "cloche.db")
    await first.add_event(msgspec.structs.replace(event_for(record(), number=1), id="ev_7" + "z" * 24 + "0"))
    await first.close()
    second = await SqliteStore.open(tmp_path / "cloche.db")
    await fill(second, 1)
    assert await numbers(second, EventQuery(after="ev_7" + "z" * 24 + "0")) == [0]
    await second.close()


async def test_what_is_dropped_before_it_was_read_is_told(store):
    row = await fill(store, 3)
    page = await store.history("default", EventQuery(limit=1))
    assert not (await store.history("default", EventQuery(after=page.cursor))).lost
    await fill(store, 8, row)
    assert (await store.history("default", EventQuery(after=page.cursor))).lost
    # who begins at the beginning has asked for what there is
    assert not (await store.history("default", EventQuery())).lost


async def test_a_listener_hears_of_every_write(store):
    heard = asyncio.Event()
    store.on_event(heard.set)
    await fill(store, 1)
    await asyncio.wait_for(heard.wait(), 30)
    store.on_event(None)


def test_the_id_after_an_id():
    assert following("ev_00000000000000000000000000") == "ev_00000000000000000000000001"
    assert following("ev_0000000000000000000000000z") == "ev_00000000000000000000000010"
