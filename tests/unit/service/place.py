"""A data directory with services over a fake engine, and a clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

from cloche.engines.fake import FakeEngine
from cloche.engines.fake.box import MACHINES
from cloche.model.errors import InvalidError
from cloche.model.sandbox import SandboxSpec
from cloche.service.services import Services
from cloche.store.memory import MemoryStore
from tests.unit.service.fake_door import FakeDoor


class StillClock:
    """Far in the future: the fake engine keeps deadlines by the real clock, and none of them may come first."""

    def __init__(self, now: float = 4_000_000_000.0) -> None:
        self._now = now
        self._waiting: list[tuple[float, asyncio.Event]] = []
        self.asked: list[float | None] = []

    def now(self) -> float:
        return self._now

    async def wait(self, event, timeout_seconds):
        self.asked.append(timeout_seconds)
        if timeout_seconds is not None:
            self._waiting.append((self._now + timeout_seconds, event))
        await event.wait()

    def forward(self, seconds: float) -> None:
        self._now += seconds
        for over, event in self._waiting:
            if over <= self._now:
                event.set()
        self._waiting = [(over, event) for over, event in self._waiting if over > self._now]


class OneEngine:
    def __init__(self, engine) -> None:
        self.engine = engine

    def get(self, name):
        if name != self.engine.name:
            raise InvalidError(f"there is no engine {name!r}", field="engine")
        return self.engine

    async def choose(self, engine, isolation):
        return self.engine

    def names(self):
        return [self.engine.name]


class Place:
    """`async with Place(tmp_path) as place`; `await place.restart()` is a node that was killed and started again."""

    def __init__(self, home: Path, store=None, pool=None) -> None:
        self.home = home
        self.pool = pool
        self.store = store or MemoryStore()
        self.clock = StillClock()
        self.points: list[str] = []
        self.make()

    def make(self) -> None:
        self.engine = FakeEngine(self.home)
        engines = OneEngine(self.engine)
        self.door = FakeDoor()
        self.services = Services(self.home, self.store, engines, self.clock, self.observe, self.pool, self.door)

    async def observe(self, point: str) -> None:
        self.points.append(point)

    async def restart(self) -> list[str]:
        await self.services.pool.stop()
        await self.services.reaper.close()
        await self.services.guests.close_all()
        self.make()
        return await self.services.recover()

    async def create(self, name=None, **spec):
        return await self.services.sandboxes.create(SandboxSpec(name=name, **spec))

    def left(self) -> list[str]:
        """Directories and boxes that exist."""
        folders = [path for parent in ("run", "sandboxes") for path in (self.home / parent).glob("*")]
        return sorted({path.name for path in folders} | set(MACHINES.get(self.home, {})))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.services.close()
        MACHINES.pop(self.home, None)


async def until(holds, turns: int = 20_000) -> None:
    """Let other tasks run until `holds()`, which may be a coroutine function; fails when it never does."""
    for _ in range(turns):
        found = holds()
        if await found if inspect.isawaitable(found) else found:
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")
