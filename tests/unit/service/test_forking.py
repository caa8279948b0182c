"""Forks: as many as asked for or none, each a sandbox of its own, and nothing left of the capture."""

import asyncio

import pytest

from cloche.engines.fake.box import MACHINES
from cloche.model.errors import AlreadyExistsError, EngineError, InvalidError, NotFoundError, WrongStateError
from cloche.model.events import EventQuery
from cloche.model.process import ProcessSpec
from cloche.model.snapshot import ForkSpec
from cloche.service.pool import PoolSettings
from cloche.store.sqlite import SqliteStore
from tests.unit.service.place import Place, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
async def place(request, tmp_path):
    store = await SqliteStore.open(tmp_path / "db") if request.param == "sqlite" else None
    async with Place(tmp_path, store) as made:
        yield made


def captures(place):
    return list((place.home / "captures").glob("*"))


async def fork(place, ref, count=1, **asked):
    return await place.services.forking.fork(ref, ForkSpec(count=count, **asked))


async def test_forks_are_sandboxes_of_their_own(place):
    parent = await place.create("a", ttl_seconds=100, labels={"k": "v"}, hostname="same")
    process = await place.services.processes.start("a", ProcessSpec(argv=["sleep", "1000"]))
    children = await fork(place, "a", 3, names=["x", "y", "z"], labels={"l": "w"})
    assert [child.name for child in children] == ["x", "y", "z"]
    assert len({parent.id, *(child.id for child in children)}) == 4
    for child in children:
        assert (child.state, child.parent_id) == ("running", parent.id)
        assert child.labels == {"k": "v", "l": "w"} and child.spec.hostname is None
        assert child.expires_at == place.clock.now() + 100
        assert (await place.services.processes.get(child.id, process.id)).state == "running"
    assert (await place.services.sandboxes.get("a")).state == "running"
    assert captures(place) == [] and place.services.reaper.living() == 4
    await place.services.sandboxes.remove("a")
    assert (await place.services.processes.get("x", process.id)).state == "running"


async def test_what_is_told_of_a_fork(place):
    parent = await place.create("a")
    one, two = await fork(place, "a", 2)
    events = (await place.store.history("default", EventQuery())).events
    assert [event.kind for event in events] == ["sandbox.created"] * 3 + ["sandbox.forked"]
    assert events[-1].sandbox_id == parent.id and events[-1].data == {"children": [one.id, two.id]}
    assert events[1].data["parent_id"] == parent.id


async def test_a_fork_of_a_fork(place):
    await place.create("a")
    (child,) = await fork(place, "a")
    (grandchild,) = await fork(place, child.id)
    assert grandchild.parent_id == child.id


async def test_a_paused_parent_stays_paused_and_its_forks_run(place):
    await place.create("a")
    await place.services.sandboxes.pause("a")
    (child,) = await fork(place, "a")
    assert (await place.services.sandboxes.get("a")).state == "paused"
    assert child.state == "running"
    await place.services.processes.start(child.id, ProcessSpec(argv=["true"]))


async def test_the_time_to_live_of_a_fork_can_be_its_own(place):
    await place.create("a", ttl_seconds=100)
    (child,) = await fork(place, "a", ttl_seconds=7)
    assert child.expires_at == place.clock.now() + 7


@pytest.mark.parametrize(
    "asked", [{"count": 0}, {"count": 65}, {"count": 2, "names": ["x"]}, {"count": 2, "names": ["x", "x"]},
              {"names": ["A b"]}, {"ttl_seconds": -1}, {"labels": {"": ""}}],
)  # fmt: skip
async def test_what_is_wrong_is_refused_before_anything_is_done(place, asked):
    await place.create("a")
    with pytest.raises(InvalidError):
        await fork(place, "a", **asked)
    assert "fork.marked" not in place.points


async def test_a_taken_name_is_found_before_the_parent_is_stopped(place):
    await place.create("a")
    with pytest.raises(AlreadyExistsError):
        await fork(place, "a", 2, names=["b", "a"])
    assert "fork.marked" not in place.points
    assert [sandbox.name for sandbox in (await place.services.sandboxes.find()).sandboxes] == ["a"]


async def test_only_what_lives_is_forked(place):
    with pytest.raises(NotFoundError):
        await fork(place, "nobody")
    await place.create("a")
    await place.services.sandboxes.suspend("a")
    with pytest.raises(WrongStateError) as refused:
        await fork(place, "a")
    assert refused.value.remedy == "cloche resume a"


@pytest.mark.parametrize("stage", ["capture", "capture:half", "restore", "restore:half", "open_channel"])
async def test_all_or_none(place, stage):
    parent = await place.create("a")
    place.engine.fail_next(stage, EngineError("broken", stage=stage))
    with pytest.raises(EngineError, match="broken"):
        await fork(place, "a", 8)
    assert [sandbox.id for sandbox in (await place.services.sandboxes.find()).sandboxes] == [parent.id]
    assert place.left() == [parent.id] and captures(place) == []
    assert await place.store.intents() == [] and place.services.reaper.living() == 1
    await place.services.processes.start("a", ProcessSpec(argv=["true"]))


async def test_a_name_that_is_taken_meanwhile_undoes_all(place):
    parent = await place.create("a")

    async def take_it(point):
        if point == "fork.captured":
            await place.create("late")

    place.services._core.observer = take_it
    with pytest.raises(AlreadyExistsError):
        await fork(place, "a", 3, names=["x", "late", "z"])
    found = (await place.services.sandboxes.find()).sandboxes
    assert [sandbox.name for sandbox in found] == ["a", "late"]
    assert set(MACHINES[place.home]) == {sandbox.id for sandbox in found} and parent.id in MACHINES[place.home]


@pytest.mark.parametrize("point", ["fork.marked", "fork.captured", "fork.row_written", "fork.engine_created"])
async def test_whoever_gives_up_leaves_nothing(place, point):
    parent = await place.create("a")
    arrived, never = asyncio.Event(), asyncio.Event()

    async def wait_there(reached):
        if reached == point:
            arrived.set()
            if point in ("fork.marked", "fork.captured"):
                return
            await never.wait()

    place.services._core.observer = wait_there
    task = asyncio.ensure_future(fork(place, "a", 4))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [sandbox.id for sandbox in (await place.services.sandboxes.find()).sandboxes] == [parent.id]
    assert place.left() == [parent.id] and captures(place) == [] and await place.store.intents() == []


async def test_many_at_once(place):
    await place.create("a")
    assert len({child.id for child in await fork(place, "a", 64)}) == 64
    both = await asyncio.gather(fork(place, "a", 5), fork(place, "a", 5))
    assert len({child.id for family in both for child in family}) == 10
    assert place.services.reaper.living() == 75 and captures(place) == []


async def test_a_member_of_a_pool_forks_like_any_other_once_it_is_somebodys(tmp_path):
    async with Place(tmp_path, pool=PoolSettings(size=1, quiet_seconds=0)) as place:
        await place.services.pool.start()
        shelf = next(iter(place.services.pool._shelves))
        await until(lambda: shelf.info().ready == 1 and not shelf.filling, turns=2_000_000)
        (member,) = [row for row in place.store._records.values() if row.sandbox.state == "running"]
        with pytest.raises(NotFoundError):
            await fork(place, member.sandbox.id)
        made = await place.create("a")
        assert made.id == member.sandbox.id
        (child,) = await fork(place, "a")
        assert (await place.store.get(child.id)).pool_key is None
