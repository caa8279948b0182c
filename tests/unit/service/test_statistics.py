"""All living sandboxes in one look, which none of them can hold up."""

import asyncio

import pytest

from cloche.engines.base import BoxUsage
from cloche.model.errors import EngineError
from cloche.model.events import SandboxStats
from cloche.service.statistics import AT_ONCE, LEFT_ALONE_SECONDS, Statistics

pytestmark = pytest.mark.anyio


async def test_all_that_live_and_nothing_else(place):
    await place.create("runs")
    await place.create("frozen")
    await place.services.sandboxes.pause("frozen")
    await place.create("ended")
    await place.services.sandboxes.stop("ended")
    found = await place.services.statistics.all()
    assert [use.sandbox.name for use in found.sandboxes] == ["runs", "frozen"]
    assert all(use.stats.pids_limit == 256 for use in found.sandboxes)
    assert (await place.services.statistics.all(project_id="other")).sandboxes == []


async def test_one_that_hangs_holds_up_nobody_and_is_left_alone(place):
    for name in ("hangs", "fails", "works"):
        await place.create(name)
    asked = []

    async def measure(record):
        name = record.sandbox.name
        asked.append(name)
        if name == "hangs":
            await asyncio.Event().wait()
        if name == "fails":
            raise EngineError("no answer", stage="control")
        # without giving way: a slow machine is not what this is about
        return SandboxStats(time=1.0, processes=1)

    statistics = Statistics(place.services._core, measure, limit_seconds=0.01)
    for _ in range(2):
        found = {use.sandbox.name: use.stats for use in (await statistics.all()).sandboxes}
        assert found["works"].processes is not None
        assert found["hangs"].processes is found["fails"].processes is None
    assert asked.count("hangs") == 1
    place.clock.forward(LEFT_ALONE_SECONDS + 1)
    await statistics.all()
    assert asked.count("hangs") == 2


async def test_only_so_many_are_asked_at_once_and_a_look_is_shared(place):
    for number in range(AT_ONCE + 4):
        await place.create(f"box{number}")
    running, most, looks = 0, 0, 0

    async def measure(record):
        nonlocal running, most, looks
        running, looks = running + 1, looks + 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await place.services.sandboxes.stats_of(record)

    statistics = Statistics(place.services._core, measure)
    one, two = await asyncio.gather(statistics.all(), statistics.all())
    assert one is two
    assert (most, looks) == (AT_ONCE, AT_ONCE + 4)


async def test_the_guest_is_not_asked_for_what_the_engine_knows(place, monkeypatch):
    await place.create("one")

    async def usage(box):
        return BoxUsage(memory_bytes=1, disk_bytes=2, processes=3, pids=4)

    async def guest(record):
        raise AssertionError("asked")

    monkeypatch.setattr(place.engine, "usage", usage)
    monkeypatch.setattr(place.services.sandboxes, "_guest_stats", guest)
    (use,) = (await place.services.statistics.all()).sandboxes
    assert (use.stats.memory_bytes, use.stats.disk_bytes, use.stats.processes, use.stats.pids) == (1, 2, 3, 4)
