"""Fills pools in the background, and takes away what is too much or has ended.

It has the lowest priority: one member at a time, none while a sandbox is being made for somebody, none right after one
was asked for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from cloche.model.errors import ClocheError
from cloche.service import members
from cloche.service.core import Core
from cloche.service.shelves import Member, Shelf, Shelves
from cloche.service.steps import to_the_end

#: how long the machine is left to whoever has just got a sandbox, and how long one member is put off for that at most
QUIET_SECONDS, PATIENCE_SECONDS = 0.01, 0.05
#: how often waiting members are measured again
MEASURE_SECONDS = 60.0
AT_ONCE = 8
log = logging.getLogger("cloche.service")


class Filler:
    def __init__(self, core: Core, shelves: Shelves, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._core = core
        self._shelves = shelves
        self._quiet_seconds = quiet_seconds
        self._wake = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()
        self._creating = 0
        self._last_asked = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._spawn(self._run())

    async def stop(self) -> None:
        """Fill and watch no more; the members stay as they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Remove every member."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def remove(member: Member) -> None:
            async with gate:
                await self._remove(member)

        await asyncio.gather(*map(remove, self._shelves.everything()))

    def look(self) -> None:
        """What is wanted, or what is there, has changed."""
        self._wake.set()

    def asked(self) -> None:
        """Somebody has just asked for a sandbox, and will use it."""
        self._last_asked = asyncio.get_running_loop().time()
        self._wake.set()

    @contextmanager
    def creating(self) -> Iterator[None]:
        """While this is held somebody waits for a sandbox that is being made."""
        self._creating += 1
        self._calm.clear()
        try:
            yield
        finally:
            self._creating -= 1
            self.asked()
            if not self._creating:
                self._calm.set()

    async def measure(self) -> None:
        for member in [member for shelf in self._shelves for member in shelf.ready]:
            with contextlib.suppress(ClocheError):
                member.memory_bytes = await members.measured(self._core, member.record)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            if (member := self._shelves.surplus()) is not None:
                await to_the_end(self._remove(member))
            elif (shelf := self._shelves.lacking(self._core.clock.now())) is not None:
                await self._quiet()
                await self._make(shelf)
            else:
                await self._rest()

    async def _rest(self) -> None:
        """Until there is something to do, or it is time to look what the members use."""
        at = self._shelves.wake_at()
        left = MEASURE_SECONDS if at is None else max(0.0, min(MEASURE_SECONDS, at - self._core.clock.now()))
        await self._core.clock.wait(self._wake, left if self._shelves else None)
        if not self._wake.is_set() and at is None:
            await self.measure()

    async def _quiet(self) -> None:
        """Whoever asks for a sandbox goes first, and so does the first thing that is done in it."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            await self._calm.wait()
            left = min(self._last_asked + self._quiet_seconds, begun + PATIENCE_SECONDS) - loop.time()
            if left <= 0:
                return
            await asyncio.sleep(left)

    async def _make(self, shelf: Shelf) -> None:
        shelf.filling += 1
        try:
            member = await members.make(self._core, shelf.plan)
        except Exception as error:
            # whatever it was, the node goes on without this member
            log.warning("a sandbox for the pool could not be made: %s", error)
            shelf.failed(self._core.clock.now(), str(error)[:500])
            return
        finally:
            shelf.filling -= 1
        shelf.made()
        self._shelves.put(member)
        member.guard = self._spawn(self._guard(member))

    async def _guard(self, member: Member) -> None:
        """A member that ends is never given out."""
        record = member.record
        await self._core.boxes.engine(record).wait(self._core.boxes.box(record))
        shelf = self._shelves.drop(member)
        if shelf is not None:
            member.guard = None
            shelf.died(self._core.clock.now())
            await to_the_end(self._remove(member))
            self._wake.set()

    async def _remove(self, member: Member) -> None:
        if member.guard is not None:
            member.guard.cancel()
        try:
            await members.remove(self._core, member.record)
        except Exception as error:
            # its row stays, so the next start of the node tries again
            log.warning("sandbox %s waited and could not be removed: %s", member.record.sandbox.id, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
