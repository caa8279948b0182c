"""kill -9 of a node between any two steps, then a new node: it adopts, finishes or undoes, and nothing is left over."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cloche.engines import registry
from cloche.model.events import SandboxQuery
from tests.faults import victim

POINTS = {
    "create": ["row_written", "directories_made", "engine_created", "guest_answered", "guest_configured", "committed"],
    "start": ["row_written", "directories_made", "engine_started", "guest_answered", "guest_configured", "committed"],
    "stop": ["marked", "guest_asked", "engine_stopped", "committed"],
    "remove": ["marked", "engine_removed", "directories_removed", "committed"],
}
EVERY_POINT = [(operation, point) for operation, points in POINTS.items() for point in points]
#: what is there after recovery: (operation, point) → state, or None for nothing at all; an engine whose boxes die with
#: the node finds what ran "failed" instead of "running"
SETTLED = {"create": None, "start": "stopped", "stop": "stopped", "remove": None}
LATE = {("create", "committed"): "running", ("start", "committed"): "running"}


@pytest.fixture(params=["fake", "namespace"])
def engine(request, tmp_path):
    made = registry.build(request.param, tmp_path)
    missing = [check for check in asyncio.run(made.check()) if check.required and check.status == "missing"]
    if missing:
        pytest.skip(f"engine {request.param} cannot run here: {missing[0].summary}")
    yield request.param
    # only a test that failed leaves anything
    asyncio.run(made.sweep(frozenset()))


@pytest.mark.parametrize(("operation", "point"), EVERY_POINT, ids=[f"{a}.{b}" for a, b in EVERY_POINT])
def test_nothing_is_left_after_a_kill(tmp_path, engine, operation, point):
    kill_at(tmp_path, engine, operation, point)
    asyncio.run(recover_and_look(tmp_path, engine, operation, point))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("milliseconds", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize(("operation", "point"), [("create", "directories_made"), ("start", "directories_made"),
                                                  ("stop", "guest_asked"), ("remove", "marked")])  # fmt: skip
def test_nothing_is_left_after_a_kill_within_a_step(tmp_path, engine, operation, point, milliseconds):
    kill_at(tmp_path, engine, operation, f"{point}+{milliseconds}")

    async def recover_and_end() -> None:
        services = await victim.open_services(tmp_path, engine)
        await services.recover()
        rows = await services.store.select(None, SandboxQuery())
        resting = {"running", "stopped"} if engine != "fake" else {"failed", "stopped"}
        assert {row.sandbox.state for row in rows} <= resting
        assert await services.store.intents() == []
        await end(services)
        await services.close()

    asyncio.run(recover_and_end())
    assert leftovers(tmp_path) == []


def test_leftovers_are_found(tmp_path):
    """The search itself: what a killed node leaves running is seen before recovery and not after it."""
    made = registry.build("namespace", tmp_path)
    if any(check.required and check.status == "missing" for check in asyncio.run(made.check())):
        pytest.skip("the namespace engine cannot run here")
    kill_at(tmp_path, "namespace", "create", "committed")
    found = leftovers(tmp_path)
    assert any(line.startswith("process ") for line in found) and directories(tmp_path)
    asyncio.run(recover_and_look(tmp_path, "namespace", "create", "committed"))
    assert leftovers(tmp_path) == []


def test_the_points_are_all_that_there_are(tmp_path):
    reached: list[str] = []

    async def observe(point: str) -> None:
        reached.append(point)

    async def whole_life() -> None:
        services = await victim.open_services(tmp_path, "fake", observe)
        for operation in ("create", "stop", "start", "remove"):
            await victim.act(services, operation)
        await services.close()

    asyncio.run(whole_life())
    assert sorted(reached) == sorted(f"{operation}.{point}" for operation, point in EVERY_POINT)


def test_a_second_kill_during_recovery_is_survived(tmp_path, engine):
    kill_at(tmp_path, engine, "remove", "marked")

    async def half_recover() -> None:
        async def die(point: str) -> None:
            if point == "remove.engine_removed":
                os.kill(os.getpid(), signal.SIGKILL)

        await (await victim.open_services(tmp_path, engine, die)).recover()

    pid = os.fork()
    if pid == 0:
        asyncio.run(half_recover())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    asyncio.run(recover_and_look(tmp_path, engine, "remove", "marked"))
    assert leftovers(tmp_path) == []


def kill_at(home: Path, engine: str, operation: str, point: str) -> None:
    command = [sys.executable, victim.__file__, str(home), engine, operation, point]
    source = Path(registry.__file__).parents[2]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(source)}, capture_output=True, timeout=60)
    # a time after the point may come after the end
    killed = {-signal.SIGALRM, 0} if "+" in point else {-signal.SIGKILL}
    assert ended.returncode in killed, ended.stderr.decode()


async def recover_and_look(home: Path, engine: str, operation: str, point: str) -> None:
    services = await victim.open_services(home, engine)
    try:
        await services.recover()
        survives = (await services.engines.get(engine).capabilities()).survives_node
        await look(services, expected(operation, point, survives))
        await end(services)
    finally:
        await services.close()


def expected(operation: str, point: str, survives: bool) -> str | None:
    state = LATE.get((operation, point), SETTLED[operation])
    return "failed" if state == "running" and not survives else state


async def look(services, state: str | None) -> None:
    rows = await services.store.select(None, SandboxQuery())
    assert [row.sandbox.state for row in rows] == ([state] if state else [])
    assert await services.store.intents() == []
    for row in rows:
        box = services._core.boxes.box(row)
        status = await services.engines.get(row.sandbox.engine).status(box)
        assert (status.status == "running") == (state == "running")
    if state is None:
        assert directories(services.home) == []


async def end(services) -> None:
    """The sandbox can still be used for what its state allows, and be removed."""
    for row in await services.store.select(None, SandboxQuery()):
        if row.sandbox.state == "running":
            assert len(await services.processes.list_for(row.sandbox.id)) <= 1
        if row.sandbox.state == "stopped" and row.sandbox.engine != "fake":
            assert (await services.sandboxes.start(row.sandbox.id)).state == "running"
        await services.sandboxes.remove(row.sandbox.id)


def directories(home: Path) -> list[str]:
    return [str(path) for parent in ("run", "sandboxes") for path in (home / parent).glob("*")]


def leftovers(home: Path) -> list[str]:
    """Directories, processes, mounts and cgroups that belong to the data directory."""
    ids = sandbox_ids(home)
    return [*directories(home), *processes(str(home), ids), *cgroups(ids)]


def sandbox_ids(home: Path) -> list[str]:
    """Every sandbox that ever was there, by the events that stay; and by intents of one that never got an event."""
    with sqlite3.connect(home / "cloche.db") as database:
        found = [row[0] for row in database.execute("SELECT DISTINCT sandbox_id FROM events")]
    database.close()
    assert found
    return found


def processes(home: str, ids: list[str]) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        try:
            told = b" ".join((entry / name).read_bytes() for name in ("cmdline", "cgroup", "mountinfo", "environ"))
            told += os.readlink(entry / "cwd").encode()
        except OSError:
            continue
        if any(word.encode() in told for word in [*ids, home + "/"]):
            found.append(f"process {entry.name}: {(entry / 'cmdline').read_bytes()!r}")
    return found


def cgroups(ids: list[str]) -> list[str]:
    return [
        os.path.join(root, name)
        for root, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if any(sandbox_id in name for sandbox_id in ids)
    ]
