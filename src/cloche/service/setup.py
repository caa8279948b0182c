"""Set-up of engines: what they need beside Cloche itself, fetched by them and told of as it goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping

import msgspec

from cloche.engines.base import Check, Engine, Progress, WithoutSetup
from cloche.model.errors import ClocheError
from cloche.service.ports import Engines

#: how long nothing may be said before the silence itself is told
QUIET_SECONDS = 15.0
#: a client that reads slowly misses some of the progress, and never the end
MAX_WAITING = 1000


class EngineSetup(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that can be set up. `missing`: what it cannot run without and does not have."""

    name: str
    usable: bool
    missing: list[Check]


class SetupService:
    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def all(self) -> list[EngineSetup]:
        """Those that need something beside Cloche itself."""
        engines = [engine for name in self._engines.names() if (engine := self._engine(name)) is not None]
        return [await _state(engine) for engine in engines if _has_setup(engine)]

    async def run(self, name: str, options: Mapping[str, str]) -> AsyncIterator[Progress | None]:
        """Set an engine up; None means that nothing has happened for a while. Of two at once the second waits, and
        then finds everything there. Closed early, the work ends at its next safe point.

        Raises InvalidError (no such engine, an option), UnavailableError, NoSpaceError, EngineError."""
        engine = self._engines.get(name)
        said: asyncio.Queue[Progress | None] = asyncio.Queue()
        work = asyncio.ensure_future(self._work(engine, dict(options), said))
        work.add_done_callback(lambda _: said.put_nowait(None))
        try:
            async for progress in _until_end(said):
                yield progress
            await work
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, ClocheError):
                await work

    async def _work(self, engine: Engine, options: dict[str, str], said: asyncio.Queue[Progress | None]) -> None:
        def report(progress: Progress) -> None:
            if said.qsize() < MAX_WAITING:
                said.put_nowait(progress)

        lock = self._locks[engine.name]
        if lock.locked():
            report(Progress(step="wait", summary="another set-up is going on"))
        async with lock:
            await engine.setup(options, report)

    def _engine(self, name: str) -> Engine | None:
        """None: it cannot be imported, which doctor tells."""
        try:
            return self._engines.get(name)
        except ClocheError:
            return None


def _has_setup(engine: Engine) -> bool:
    return getattr(type(engine), "setup", None) is not WithoutSetup.setup


async def _until_end(said: asyncio.Queue[Progress | None]) -> AsyncIterator[Progress | None]:
    """What comes out of the queue until None does; None where nothing comes for a while."""
    while True:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                found = await said.get()
        except TimeoutError:
            yield None
            continue
        if found is None:
            return
        yield found


async def _state(engine: Engine) -> EngineSetup:
    missing = [check for check in await engine.check() if check.required and check.status == "missing"]
    return EngineSetup(name=engine.name, usable=not missing, missing=missing)
