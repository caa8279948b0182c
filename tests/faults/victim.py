"""A node's services that kill themselves: `victim.py HOME ENGINE OPERATION POINT`. Run by test_kill.py.

Everything before OPERATION is done first; at POINT of OPERATION the process gets SIGKILL. "POINT+3" is 3 ms after it:
inside the next step, wherever that is by then."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from cloche.engines import registry
from cloche.model.limits import Limits
from cloche.model.process import ProcessSpec
from cloche.model.sandbox import SandboxSpec
from cloche.model.snapshot import ForkSpec, SnapshotSpec
from cloche.service.pool import PoolSettings
from cloche.service.services import Services
from cloche.store.sqlite import SqliteStore

BEFORE = {"create": [], "start": ["create", "stop"], "stop": ["create"], "remove": ["create"],
          "fill": [], "claim": ["fill"], "drain": ["fill"],
          "suspend": ["create"], "wake": ["create", "suspend"], "fork": ["create"], "snapshot": ["create"],
          "snapshot_remove": ["create", "snapshot"], "import": ["create", "snapshot"],
          "unfreeze": ["create", "snapshot"], "remove_suspended": ["create", "suspend"]}  # fmt: skip
#: what a drain reaches is called as in every removal
POINTS_OF = {"drain": "remove", "remove_suspended": "remove"}
POOL = PoolSettings(size=2, quiet_seconds=0)
NAME = "victim"
SNAPSHOT = "base"
FORKS = 3


class OneEngine:
    """A registry of one engine, by name."""

    def __init__(self, home: Path, name: str) -> None:
        self.engine = registry.build(name, home)

    def get(self, name):
        assert name == self.engine.name
        return self.engine

    async def choose(self, engine, isolation):
        return self.engine

    def names(self):
        return [self.engine.name]


async def open_services(home: Path, engine: str, observer=None, pool=None) -> Services:
    store = await SqliteStore.open(home / "cloche.db")
    return Services(home, store, OneEngine(home, engine), observer=observer, pool=pool)


async def fill(services: Services) -> None:
    """Until two wait."""
    await services.pool.start()
    # there is nothing to wait on from outside
    while (await services.pool.report()).pools[0].ready < POOL.size:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def copy(services: Services) -> None:
    """Out and in again."""
    async with services.snapshot_copies.content(SNAPSHOT) as reply:
        await services.snapshot_copies.add(reply.stream(), name="copy")


async def act(services: Services, operation: str) -> None:
    match operation:
        case "create":
            await services.sandboxes.create(SandboxSpec(name=NAME))
            await services.processes.start(NAME, ProcessSpec(argv=["sleep", "1000"]))
        case "start":
            await services.sandboxes.start(NAME)
        case "stop":
            await services.sandboxes.stop(NAME, grace_seconds=0.2)
        case "remove":
            await services.sandboxes.remove(NAME)
        case "fill":
            await fill(services)
        case "claim":
            await services.sandboxes.create(SandboxSpec(name=NAME, ttl_seconds=1000, limits=Limits(pids=99)))
        case "suspend":
            await services.sandboxes.suspend(NAME)
        case "wake":
            await services.sandboxes.resume(NAME)
        case "fork":
            await services.forking.fork(NAME, ForkSpec(count=FORKS))
        case "snapshot":
            await services.snapshots.create(NAME, SnapshotSpec(name=SNAPSHOT))
        case "snapshot_remove":
            await services.snapshots.remove(SNAPSHOT)
        case "import":
            await copy(services)
        case "unfreeze":
            await services.sandboxes.create(SandboxSpec(snapshot=SNAPSHOT))
        case "remove_suspended":
            await services.sandboxes.remove(NAME)
        case "drain":
            await services.close()


async def main(home: Path, engine: str, operation: str, point: str) -> None:
    async def die(reached: str) -> None:
        if reached == armed and later:
            # by its default action, not by a handler of Python's, which would wait for a bytecode
            signal.setitimer(signal.ITIMER_REAL, float(later) / 1000)
        elif reached == armed:
            os.kill(os.getpid(), signal.SIGKILL)

    armed, (point, _, later) = "", point.partition("+")
    services = await open_services(home, engine, die, POOL if operation in ("fill", "claim", "drain") else None)
    for earlier in BEFORE[operation]:
        await act(services, earlier)
    armed = f"{POINTS_OF.get(operation, operation)}.{point}"
    await act(services, operation)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:5]))
