"""Sandboxes that wait, over the fake engine: given out once, whole, and never leaked."""

import asyncio

import msgspec
import pytest

from cloche.model.errors import AlreadyExistsError, EngineError, InvalidError, LimitUnenforceableError, SandboxDeadError
from cloche.model.events import EventQuery, SandboxQuery
from cloche.model.limits import Limits
from cloche.model.pool import POOL_PROJECT
from cloche.model.process import ProcessSpec
from cloche.model.sandbox import SandboxSpec
from cloche.service.pool import PoolSettings
from tests.unit.service import place as places
from tests.unit.service.place import Place

pytestmark = pytest.mark.anyio
SIZE = 3


@pytest.fixture
async def place(tmp_path):
    settings = PoolSettings(size=SIZE, memory_mib=1 << 20, quiet_seconds=0)
    async with Place(tmp_path, pool=settings) as made:
        await made.services.pool.start()
        await full(made)
        made.points.clear()
        yield made
    assert made.left() == []


async def until(holds):
    """A member is made by threads: they need more turns than what happens on the event loop alone."""
    await places.until(holds, turns=2_000_000)


async def full(place, ready=SIZE):
    await until(lambda: shelf(place).info().ready == ready and not shelf(place).filling)


def shelf(place):
    return next(iter(place.services.pool._shelves))


async def kinds(place, sandbox):
    return [(event.kind, event.data) for event in await place.services.sandboxes.events(sandbox.id)]


async def environment(place, ref):
    async with place.services.processes.follow(ref, ProcessSpec(argv=["env"])) as reply:
        return await reply.read()


async def in_store(place):
    return await place.store.select(None, SandboxQuery())


async def test_nobody_sees_what_waits(place):
    assert (await place.services.sandboxes.find()).sandboxes == []
    waiting = await in_store(place)
    assert {row.sandbox.project_id for row in waiting} == {POOL_PROJECT} and len(waiting) == SIZE
    assert place.services.reaper.living() == 0
    assert (await place.services.watching._core.store.history("default", EventQuery())).events == []
    assert await place.store.intents() == []


async def test_a_claimed_sandbox_is_what_was_asked_for(place):
    waiting = {row.sandbox.id for row in await in_store(place)}
    place.clock.forward(5)
    made = await place.services.sandboxes.create(
        SandboxSpec(name="a", env={"A": "1"}, labels={"l": "v"}, ttl_seconds=60, limits=Limits(pids=9)),
        session_env={"SECRET": "s"},
    )
    assert made.id in waiting
    assert (made.state, made.name, made.project_id, made.labels) == ("running", "a", "default", {"l": "v"})
    assert made.created_at == made.started_at == place.clock.now()
    assert (made.expires_at, made.limits.pids) == (place.clock.now() + 60, 9)
    assert made.limits_unenforced == ["memory", "cpus", "open_files"]
    assert await place.services.sandboxes.get("a") == made
    assert await kinds(place, made) == [("sandbox.created", {"name": "a", "engine": "fake", "pool": True})]
    output = await environment(place, "a")
    assert b"A=1" in output and b"SECRET=s" in output
    assert place.services.reaper.living() == 1
    shown = shelf(place).info()
    assert (shown.hits, shown.misses) == (1, {})
    await full(place)
    await place.services.sandboxes.remove("a")


async def test_it_lives_and_ends_as_any_other(place):
    made = await place.create("a", ttl_seconds=60)
    assert (await place.services.sandboxes.stop("a", grace_seconds=0)).state == "stopped"
    assert (await place.services.sandboxes.start("a")).id == made.id
    place.clock.forward(61)
    await until(lambda: place.services.reaper.living() == 0)
    assert [kind for kind, _ in await kinds(place, made)][-1] == "sandbox.removed"


async def test_a_late_limit_is_held_by_the_guest(place):
    await place.create("a", limits=Limits(pids=5))
    started = [await place.services.processes.start("a", ProcessSpec(argv=["sleep", "1000"])) for _ in range(6)]
    assert {info.limit_hit for info in started if info.state == "exited"} == {"pids"}
    await place.services.sandboxes.remove("a")


async def test_claims_at_once_never_get_the_same(place):
    made = await asyncio.gather(*(place.create(f"n{number}") for number in range(SIZE + 4)))
    assert len({sandbox.id for sandbox in made}) == SIZE + 4
    shown = shelf(place).info()
    assert shown.hits + shown.misses.get("empty", 0) == SIZE + 4 and shown.hits >= SIZE
    for sandbox in made:
        await place.services.sandboxes.remove(sandbox.id)


@pytest.mark.parametrize(
    ("reason", "spec"),
    [("disk", {"limits": Limits(disk_mib=5)}), ("hostname", {"hostname": "h"}), ("hide", {"hide": ["/x"]})],
)
async def test_what_cannot_be_late_is_a_miss_and_counted(place, reason, spec):
    made = await place.create("a", **spec)
    assert "pool" not in (await kinds(place, made))[0][1]
    assert (shelf(place).info().hits, shelf(place).info().misses) == (0, {reason: 1})
    await place.services.sandboxes.remove("a")


async def test_an_engine_without_late_limits_misses(place, monkeypatch):
    able = await place.engine.capabilities()

    async def unable():
        return msgspec.structs.replace(able, late_limits=False)

    monkeypatch.setattr(place.engine, "capabilities", unable)
    await place.create("a", limits=Limits(pids=9))
    await place.create("b", limits=Limits(open_files=None))
    assert (shelf(place).info().hits, shelf(place).info().misses) == (1, {"limits": 1})
    for name in "ab":
        await place.services.sandboxes.remove(name)


async def test_an_empty_pool_makes_one_instead(place):
    place.engine.fail_next("create", EngineError("no", stage="create"))
    made = [await place.create(f"n{number}") for number in range(SIZE)]
    await until(lambda: shelf(place).error == "no")
    # backing off, and the clock stands still
    made.append(await place.create("last"))
    assert shelf(place).info().misses == {"empty": 1}
    place.clock.forward(2)
    await full(place)
    assert shelf(place).error is None
    for sandbox in made:
        await place.services.sandboxes.remove(sandbox.id)


async def test_what_a_create_refuses_uses_no_member(place):
    await place.create("a")
    await full(place)
    with pytest.raises(AlreadyExistsError):
        await place.create("a")
    with pytest.raises(LimitUnenforceableError):
        await place.create("b", limits=Limits(memory_mib=64))
    with pytest.raises(InvalidError):
        await place.create("b", env={"": "x"})
    assert shelf(place).info().ready == SIZE and shelf(place).info().hits == 1
    await place.services.sandboxes.remove("a")


@pytest.mark.parametrize("stage", ["set_limits", "set_deadline"])
async def test_a_claim_that_fails_removes_the_member_and_makes_another(place, stage):
    waiting = {row.sandbox.id for row in await in_store(place)}
    place.engine.fail_next(stage, EngineError("no", stage=stage))
    made = await place.create("a", ttl_seconds=60, limits=Limits(pids=9))
    assert made.id not in waiting and made.state == "running"
    assert shelf(place).info().misses == {"failed": 1}
    assert len(waiting & {row.sandbox.id for row in await in_store(place)}) == SIZE - 1
    await place.services.sandboxes.remove("a")


async def test_a_guest_that_dies_while_it_is_given_out(place, monkeypatch):
    waiting = {row.sandbox.id for row in await in_store(place)}
    links = place.services.guests
    get = links.get

    async def dies(record):
        monkeypatch.setattr(links, "get", get)
        raise SandboxDeadError("gone", reason="guest_died")

    monkeypatch.setattr(links, "get", dies)
    made = await place.create("a")
    assert made.id not in waiting
    assert shelf(place).info().misses == {"failed": 1}
    await place.services.sandboxes.remove("a")


async def test_a_member_that_dies_is_dropped_and_replaced_after_a_while(place):
    dead = shelf(place).ready[0].record.sandbox.id
    place.engine.kill_guest(dead)

    async def is_gone():
        return dead not in {row.sandbox.id for row in await in_store(place)}

    await until(is_gone)
    assert shelf(place).info().ready == SIZE - 1 == len(place.left())
    assert shelf(place).ended == 1
    place.clock.forward(2)
    await full(place)


async def test_a_claim_that_is_given_up_at_any_point_leaves_nothing(place):
    await place.create("a", ttl_seconds=60, limits=Limits(pids=9))
    points = [point for point in place.points if point.startswith("claim.")]
    assert points == ["claim.limits_set", "claim.deadline_set", "claim.guest_configured", "claim.committed"]
    await place.services.sandboxes.remove("a")
    for point in points:
        await full(place)
        await _give_up_at(place, point)
        assert (await place.services.sandboxes.find()).sandboxes == []
        await full(place)
        assert len(await in_store(place)) == SIZE == len(place.left())


async def _give_up_at(place, point):
    there = asyncio.Event()

    async def hang(reached):
        if reached == point:
            there.set()
            await asyncio.Event().wait()

    place.services._core.observer = hang
    creating = asyncio.ensure_future(place.create("a", ttl_seconds=60, limits=Limits(pids=9)))
    await there.wait()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    place.services._core.observer = None


@pytest.mark.parametrize("stage", ["create", "create:half", "open_channel"])
async def test_a_member_that_cannot_be_made_leaves_nothing_and_is_tried_again(place, stage):
    place.engine.fail_next(stage, EngineError("no", stage=stage))
    await place.create("a")
    await until(lambda: shelf(place).error is not None)
    assert len(await in_store(place)) == SIZE == len(place.left())
    assert await place.store.intents() == []
    place.clock.forward(2)
    await full(place)
    await place.services.sandboxes.remove("a")


async def test_nothing_is_filled_while_somebody_waits_for_a_sandbox(place):
    there, go_on = asyncio.Event(), asyncio.Event()

    async def hold(point):
        if point == "create.engine_created":
            there.set()
            await go_on.wait()

    place.services._core.observer = hold
    slow = asyncio.ensure_future(place.create("slow", hostname="h"))
    await there.wait()
    await place.create("fast")
    for _ in range(1000):
        await asyncio.sleep(0)
    assert shelf(place).info().ready == SIZE - 1
    go_on.set()
    await slow
    await full(place)
    for name in ("slow", "fast"):
        await place.services.sandboxes.remove(name)


async def test_a_killed_node_leaves_members_and_the_next_removes_them(place):
    claimed = await place.create("a")
    await full(place)
    waiting = {row.sandbox.id for row in await in_store(place)} - {claimed.id}
    place.pool = None
    done = await place.restart()
    assert sorted(done) == sorted(
        [f"{claimed.id}: adopted, running", *(f"{gone}: removed, it waited in a pool" for gone in waiting)]
    )
    assert place.left() == [claimed.id]
    await place.services.sandboxes.remove("a")


async def test_the_report_tells_it_all(place):
    report = await place.services.pool.report()
    (pool,) = report.pools
    assert (pool.engine, pool.image, pool.plain, pool.templates) == ("fake", "host", True, [])
    assert (pool.wanted, pool.ready, pool.filling, pool.hits) == (SIZE, SIZE, 0, 0)
    # the fake engine cannot measure, so a member counts with its limit
    assert pool.memory_bytes == report.memory_bytes == SIZE * 512 << 20
    assert report.memory_limit_bytes == 1 << 40


async def test_memory_bounds_the_pool(tmp_path):
    settings = PoolSettings(size=9, memory_mib=1100, quiet_seconds=0)
    async with Place(tmp_path, pool=settings) as place:
        await place.services.pool.start()
        await full(place, ready=2)
        # there is nothing that it could wait for but more room
        assert place.services.pool._shelves.lacking(place.clock.now()) is None
        assert shelf(place).lacking == 7


async def test_no_pool_is_no_work(tmp_path):
    async with Place(tmp_path) as place:
        await place.services.pool.start()
        await place.create("a")
        assert (await place.services.pool.report()).pools == []
        assert place.left() == [(await place.services.sandboxes.get("a")).id]
        await place.services.sandboxes.remove("a")
