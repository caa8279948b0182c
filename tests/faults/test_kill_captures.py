"""kill -9 of a node at each step of suspend, resume, fork and of everything that is done with snapshots: the next node
lets go on what ran, finishes or undoes the rest, and no capture is left that nothing needs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from cloche.engines import registry
from cloche.model.events import SandboxQuery
from cloche.model.sandbox import SandboxSpec
from tests.faults import victim
from tests.faults.test_kill import cgroups, directories, kill_at, processes

POINTS = {
    "suspend": ["marked", "directory_made", "captured", "noted", "engine_removed", "directories_removed", "committed"],
    "wake": ["row_written", "directories_made", "engine_restored", "guest_answered", "committed", "capture_removed"],
    "fork": ["marked", "directory_made", "captured", "row_written", "directories_made", "engine_created",
             "guest_answered", "all_made", "committed", "capture_removed"],
    "snapshot": ["row_written", "marked", "directory_made", "captured", "files_read", "committed"],
    "snapshot_remove": ["marked", "files_removed", "committed"],
    "import": ["row_written", "directory_made", "received", "verified", "files_read", "committed"],
    "unfreeze": ["row_written", "directories_made", "engine_created", "guest_answered", "all_made", "committed"],
    "remove_suspended": ["marked", "engine_removed", "directories_removed", "committed"],
}  # fmt: skip
EVERY_POINT = [(operation, point) for operation, points in POINTS.items() for point in points]
#: whether the capture was noted, so that the next node goes on with it, or everything was done already
SUSPENDED = {("suspend", point) for point in POINTS["suspend"][3:]} | {("wake", point) for point in POINTS["wake"][:4]}
FORKED = {("fork", "committed"), ("fork", "capture_removed")}
KEPT = {("snapshot", "committed"), ("unfreeze", "committed"), *(("unfreeze", point) for point in POINTS["unfreeze"])}
REMOVED = {("remove_suspended", point) for point in POINTS["remove_suspended"]}


def able(name: str, home: Path):
    """Skips where the engine is not there, or cannot."""
    if name not in registry.names():
        pytest.skip(f"there is no engine {name}")
    made = registry.build(name, home)
    missing = [check for check in asyncio.run(made.check()) if check.required and check.status == "missing"]
    if missing:
        pytest.skip(f"engine {name} cannot run here: {missing[0].summary}")
    can = asyncio.run(made.capabilities())
    if not (can.suspend and can.fork and can.memory_snapshot):
        pytest.skip(f"engine {name} takes no captures")
    return made


# machines that boot are killed at fewer points, by test_kill_vm
@pytest.fixture(params=["fake"])
def engine(request, tmp_path):
    made = able(request.param, tmp_path)
    yield request.param
    # only a test that failed leaves anything
    asyncio.run(made.sweep(frozenset()))


@pytest.mark.parametrize(("operation", "point"), EVERY_POINT, ids=[f"{a}.{b}" for a, b in EVERY_POINT])
def test_nothing_is_left_after_a_kill(tmp_path, engine, operation, point):
    kill_at(tmp_path, engine, operation, point)
    ids = names(tmp_path)
    asyncio.run(recover_and_look(tmp_path, engine, operation, point))
    assert leftovers(tmp_path, ids) == []


@pytest.mark.parametrize("milliseconds", [1, 3, 9])
@pytest.mark.parametrize(("operation", "point"), [("suspend", "directory_made"), ("suspend", "noted"),
                                                  ("wake", "directories_made"), ("fork", "directory_made"),
                                                  ("fork", "captured"), ("snapshot", "directory_made"),
                                                  ("import", "directory_made")])  # fmt: skip
def test_nothing_is_left_after_a_kill_within_a_step(tmp_path, engine, operation, point, milliseconds):
    kill_at(tmp_path, engine, operation, f"{point}+{milliseconds}")
    ids = names(tmp_path)
    asyncio.run(recover_and_end(tmp_path, engine))
    assert leftovers(tmp_path, ids) == []


@pytest.mark.parametrize(("operation", "point", "again"), [("suspend", "noted", "suspend.engine_removed"),
                                                           ("remove_suspended", "marked", "remove.engine_removed"),
                                                           ("fork", "all_made", "remove.engine_removed")])  # fmt: skip
def test_a_killed_recovery_is_gone_on_with(tmp_path, engine, operation, point, again):
    kill_at(tmp_path, engine, operation, point)
    ids = names(tmp_path)
    pid = os.fork()
    if pid == 0:
        asyncio.run(die_in_recovery(tmp_path, engine, again))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    asyncio.run(recover_and_look(tmp_path, engine, operation, point))
    assert leftovers(tmp_path, ids) == []


async def die_in_recovery(home: Path, engine: str, at: str) -> None:
    async def die(point: str) -> None:
        if point == at:
            os._exit(9)

    await (await victim.open_services(home, engine, die)).recover()


def test_the_points_are_all_that_there_are(tmp_path):
    reached: list[str] = []

    async def observe(point: str) -> None:
        reached.append(point)

    async def whole_life() -> None:
        services = await victim.open_services(tmp_path, "fake", observe)
        for operation in ("create", "suspend", "wake", "fork", "snapshot", "import", "unfreeze", "snapshot_remove"):
            await victim.act(services, operation)
        for row in await services.store.select(None, SandboxQuery()):
            await services.sandboxes.remove(row.sandbox.id)
        await services.close()

    asyncio.run(whole_life())
    # what a guest is told of the network is test_kill_egress's
    mine = {point for point in reached if not point.startswith(("create.", "remove.", "open."))}
    assert mine == {f"{a}.{b}" for a, b in EVERY_POINT if a != "remove_suspended"}


async def recover_and_look(home: Path, engine: str, operation: str, point: str) -> None:
    services = await victim.open_services(home, engine)
    try:
        await services.recover()
        survives = (await services.engines.get(engine).capabilities()).survives_node
        rows = await services.store.select(None, SandboxQuery())
        assert await services.store.intents() == []
        assert sorted(row.sandbox.state for row in rows) == expected(operation, point, survives)
        assert captures(home) == sorted(row.sandbox.id for row in rows if row.sandbox.state == "suspended")
        assert [each.snapshot.name for each in await services.store.snapshots(None)] == snapshots(operation, point)
        for row in rows:
            await use(services, row)
        await end(services)
    finally:
        await services.close()


def expected(operation: str, point: str, survives: bool) -> list[str]:
    """The states of what is there after recovery; an engine whose boxes die with the node finds what ran "failed"."""
    alive = "running" if survives else "failed"
    if (operation, point) in REMOVED:
        return []
    if (operation, point) in SUSPENDED:
        return ["suspended"]
    if (operation, point) in FORKED:
        return [alive] * (1 + victim.FORKS)
    return [alive] * (2 if (operation, point) == ("unfreeze", "committed") else 1)


def snapshots(operation: str, point: str) -> list[str]:
    if operation == "import":
        return [victim.SNAPSHOT, *(["copy"] if point == "committed" else [])]
    return [victim.SNAPSHOT] if (operation, point) in KEPT else []


async def use(services, row) -> None:
    """It can still be used for what its state allows."""
    if row.sandbox.state == "suspended":
        row = await services.store.get((await services.sandboxes.resume(row.sandbox.id)).id)
    if row.sandbox.state == "running":
        (process,) = await services.processes.list_for(row.sandbox.id)
        assert process.state == "running"


async def recover_and_end(home: Path, engine: str) -> None:
    services = await victim.open_services(home, engine)
    try:
        await services.recover()
        assert await services.store.intents() == []
        for row in await services.store.select(None, SandboxQuery()):
            assert row.sandbox.state in ("running", "paused", "suspended", "failed")
            if row.sandbox.state == "failed":
                assert engine == "fake" and row.sandbox.reason == "gone"
            await use(services, row)
        await end(services)
    finally:
        await services.close()


async def end(services) -> None:
    for row in await services.store.select(None, SandboxQuery()):
        await services.sandboxes.remove(row.sandbox.id)
    for each in await services.store.snapshots(None):
        made = await services.sandboxes.create(SandboxSpec(snapshot=each.snapshot.id))
        await services.sandboxes.remove(made.id)
        await services.snapshots.remove(each.snapshot.id)


def captures(home: Path) -> list[str]:
    """Of suspended sandboxes, and what a fork should have taken away."""
    return sorted(path.name for place in ("captures", "suspended") for path in (home / place).glob("*"))


def names(home: Path) -> list[str]:
    return sorted({Path(path).name for path in directories(home)})


def leftovers(home: Path, ids: list[str]) -> list[str]:
    kept = [str(path) for place in ("captures", "suspended", "snapshots") for path in (home / place).glob("*")]
    return [*directories(home), *kept, *processes(str(home), ids), *cgroups(ids)]
