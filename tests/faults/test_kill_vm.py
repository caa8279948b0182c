"""kill -9 of a node while machines boot, are cloned, captured and restored: the next node goes on with what runs,
finishes or undoes the rest, and no machine, file or cgroup is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloche.model.events import SandboxQuery
from tests.faults import victim
from tests.faults.test_kill import cgroups, directories, processes, sandbox_ids

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
#: the victim, whose image `host` is the small root as well
VICTIM = """
import asyncio, sys
from pathlib import Path
from cloche.images import hostroot
from tests.faults import victim
from tests.vm_root import always
hostroot.host_root = always(hostroot.RootImage(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
asyncio.run(victim.main(Path(sys.argv[4]), "vm", *sys.argv[5:7]))
"""
#: "+N": so many milliseconds into the step; the first machine of a home boots for a second and more
BUILDING = ["directories_made+20", "directories_made+400", "directories_made+1200", "directories_made+2500"]
POINTS = [
    ("create", "directories_made+5"), ("create", "directories_made+60"), ("create", "directories_made+200"),
    ("create", "engine_created"), ("create", "guest_answered+5"), ("create", "committed"),
    ("suspend", "directory_made+3"), ("suspend", "directory_made+30"), ("suspend", "captured"), ("suspend", "noted"),
    ("suspend", "committed"),
    ("wake", "directories_made+10"), ("wake", "directories_made+80"), ("wake", "engine_restored"),
    ("fork", "directory_made+3"), ("fork", "directory_made+30"), ("fork", "captured"), ("fork", "directories_made+50"),
    ("fork", "all_made"), ("fork", "committed"),
    ("stop", "guest_asked"), ("start", "directories_made+300"),
]  # fmt: skip


@pytest.mark.parametrize("point", BUILDING)
def test_nothing_is_left_of_a_template_that_was_begun(small_host, tmp_path, point):
    home = small_host.alone(tmp_path / "home")
    kill_at(small_host, home, "create", point)
    asyncio.run(recover_and_end(home))
    assert leftovers(home) == []


@pytest.mark.parametrize(("operation", "point"), POINTS, ids=[f"{a}.{b}" for a, b in POINTS])
def test_nothing_is_left_after_a_kill(small_host, tmp_path, operation, point):
    home = small_host.home(tmp_path / "home")
    asyncio.run(make_template(home))
    kill_at(small_host, home, operation, point)
    asyncio.run(recover_and_end(home))
    assert leftovers(home) == []


async def make_template(home: Path) -> None:
    """Once for all tests; then this costs a clone."""
    services = await victim.open_services(home, "vm")
    await victim.act(services, "create")
    await services.sandboxes.remove(victim.NAME)
    await services.close()
    await close_engine(services)


async def close_engine(services) -> None:
    await services.engines.get("vm").close()


def kill_at(place, home: Path, operation: str, point: str) -> None:
    image = place.image
    argv = [sys.executable, "-c", VICTIM, str(image.path), image.key, str(image.bytes), str(home), operation, point]
    paths = f"{ROOT / 'src'}:{ROOT}"
    ended = subprocess.run(argv, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, timeout=100)
    # a time after the point may come after the end
    killed = {-signal.SIGALRM, 0} if "+" in point else {-signal.SIGKILL}
    assert ended.returncode in killed, ended.stderr.decode()


async def recover_and_end(home: Path) -> None:
    services = await victim.open_services(home, "vm")
    try:
        await services.recover()
        assert await services.store.intents() == []
        for row in await services.store.select(None, SandboxQuery()):
            await use(services, row)
        for row in await services.store.select(None, SandboxQuery()):
            await services.sandboxes.remove(row.sandbox.id)
    finally:
        await services.close()
        await close_engine(services)


async def use(services, row) -> None:
    """It can be used for what its state allows."""
    state, sandbox_id = row.sandbox.state, row.sandbox.id
    assert state in ("running", "suspended", "stopped"), (state, row.sandbox.reason)
    if state == "stopped":
        assert (await services.sandboxes.start(sandbox_id)).state == "running"
        return
    if state == "suspended":
        await services.sandboxes.resume(sandbox_id)
    assert [each.state for each in await services.processes.list_for(sandbox_id)] in (["running"], [])


def leftovers(home: Path) -> list[str]:
    places = ("captures", "suspended", "snapshots", "standby", "building")
    kept = [str(path) for place in places for path in (home / place).glob("*")]
    unfinished = [str(path) for path in (home / "vm" / "templates").glob(".*")]
    ids = sandbox_ids(home)
    return [*directories(home), *kept, *unfinished, *processes(str(home), ids), *cgroups(ids)]
