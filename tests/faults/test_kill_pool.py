"""kill -9 of a node at each step of filling a pool, of giving a member out and of draining: whatever was a member is
removed by the next node, and what was given out is whole, once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from cloche.model.errors import NotFoundError
from cloche.model.events import SandboxQuery
from tests.faults import victim
from tests.faults.test_kill import cgroups, directories, engine, kill_at, processes

__all__ = ["engine"]
POINTS = {
    "fill": ["row_written", "directories_made", "engine_created", "guest_answered", "committed"],
    "claim": ["limits_set", "deadline_set", "guest_configured", "committed"],
    "drain": ["engine_removed", "directories_removed", "committed"],
}
EVERY_POINT = [(operation, point) for operation, points in POINTS.items() for point in points]


@pytest.mark.parametrize(("operation", "point"), EVERY_POINT, ids=[f"{a}.{b}" for a, b in EVERY_POINT])
def test_nothing_is_left_and_nothing_given_out_twice(tmp_path, engine, operation, point):
    kill_at(tmp_path, engine, operation, point)
    ids = names(tmp_path)
    asyncio.run(recover_and_look(tmp_path, engine, given_out=(operation, point) == ("claim", "committed")))
    assert leftovers(tmp_path, ids) == []


@pytest.mark.parametrize("milliseconds", [1, 2, 4, 8, 16])
@pytest.mark.parametrize(("operation", "point"), [("fill", "directories_made"), ("claim", "limits_set"),
                                                  ("drain", "engine_removed")])  # fmt: skip
def test_nothing_is_left_after_a_kill_within_a_step(tmp_path, engine, operation, point, milliseconds):
    kill_at(tmp_path, engine, operation, f"{point}+{milliseconds}")
    ids = names(tmp_path)
    asyncio.run(recover_and_look(tmp_path, engine, given_out=None))
    assert leftovers(tmp_path, ids) == []


def test_a_killed_recovery_is_gone_on_with(tmp_path, engine):
    kill_at(tmp_path, engine, "claim", "limits_set")
    ids = names(tmp_path)
    pid = os.fork()
    if pid == 0:
        asyncio.run(die_in_recovery(tmp_path, engine))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    asyncio.run(recover_and_look(tmp_path, engine, given_out=False))
    assert leftovers(tmp_path, ids) == []


def test_the_points_are_all_that_there_are(tmp_path):
    reached: list[str] = []

    async def observe(point: str) -> None:
        reached.append(point)

    async def whole_life() -> None:
        services = await victim.open_services(tmp_path, "fake", observe, victim.POOL)
        for operation in ("fill", "claim"):
            await victim.act(services, operation)
        await services.sandboxes.remove(victim.NAME)
        await services.close()

    asyncio.run(whole_life())
    wanted = {f"{operation}.{point}" for operation in ("fill", "claim") for point in POINTS[operation]}
    assert {point for point in reached if not point.startswith("remove.")} == wanted


async def die_in_recovery(home: Path, engine: str) -> None:
    async def die(point: str) -> None:
        if point == "remove.engine_removed":
            os._exit(9)

    await (await victim.open_services(home, engine, die)).recover()


async def recover_and_look(home: Path, engine: str, given_out: bool | None) -> None:
    """`given_out` None: it may or may not have been."""
    services = await victim.open_services(home, engine)
    try:
        await services.recover()
        rows = await services.store.select(None, SandboxQuery())
        assert [row.sandbox.name for row in rows] in ([[victim.NAME]] if given_out else [[], [victim.NAME]])
        assert given_out in (None, bool(rows))
        assert await services.store.intents() == []
        for row in rows:
            await use_and_remove(services, row)
    finally:
        await services.close()


async def use_and_remove(services, row) -> None:
    """What was given out has the limits that were asked for, and waits nowhere."""
    assert row.pool_key is None and row.sandbox.limits.pids == 99
    assert row.sandbox.spec.ttl_seconds == 1000
    if row.sandbox.state == "running":
        assert row.sandbox.expires_at is not None
        assert await services.processes.list_for(victim.NAME) == []
    await services.sandboxes.remove(victim.NAME)
    with pytest.raises(NotFoundError):
        await services.sandboxes.get(victim.NAME)


def names(home: Path) -> list[str]:
    """Of what there is before the recovery; the next recovery may find less."""
    return sorted({Path(path).name for path in directories(home)})


def leftovers(home: Path, ids: list[str]) -> list[str]:
    return [*directories(home), *processes(str(home), ids), *cgroups(ids)]
