"""Ends what is over: expired and idle sandboxes, and those whose guest has died.

One task sleeps until the earliest deadline of a heap; beside it each living sandbox has a task that waits for its
guest's end. Deadlines that moved are found out when they come up, so use of a sandbox costs nothing here.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from cloche.engines.base import BoxStatus
from cloche.model.errors import ClocheError
from cloche.model.sandbox import SandboxRecord
from cloche.service import teardown
from cloche.service.core import Core
from cloche.service.steps import to_the_end

#: at least this often the wall clock is looked at, as it may have been set
LOOK_AGAIN_SECONDS = 60.0
#: a sandbox that could not be ended is tried again after this
RETRY_SECONDS = 30.0
log = logging.getLogger("cloche.service")


class _Watch:
    """A living sandbox. `users`: operations that are under way in it."""

    def __init__(self, record: SandboxRecord, now: float) -> None:
        self.record = record
        self.users = 0
        self.last_used = now
        self.not_before = 0.0
        self.guard: asyncio.Task[None] | None = None
        self.beside: asyncio.Task[None] | None = None

    def tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self.guard, self.beside) if task]

    def deadline(self, now: float) -> float | None:
        times = [time for time in (self.record.sandbox.expires_at, self.idle_deadline(now)) if time is not None]
        return max(min(times), self.not_before) if times else None

    def idle_deadline(self, now: float) -> float | None:
        """A paused or suspended sandbox is not idle: somebody has put it aside."""
        timeout = self.record.sandbox.spec.idle_timeout_seconds
        if timeout is None or self.record.sandbox.state in ("paused", "suspended"):
            return None
        return (now if self.users else self.last_used) + timeout

    def expired(self, now: float) -> bool:
        expires_at = self.record.sandbox.expires_at
        return expires_at is not None and expires_at <= now


class Reaper:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._watched: dict[str, _Watch] = {}
        self._heap: list[tuple[float, str]] = []
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def living(self) -> int:
        """How many sandboxes run or are paused: a node with none may leave."""
        return sum(watch.guard is not None for watch in self._watched.values())

    def watch(self, record: SandboxRecord) -> None:
        """Begin, or take note that the row has changed (state, expires_at)."""
        sandbox_id = record.sandbox.id
        watch = self._watched.get(sandbox_id)
        if watch is None:
            watch = self._watched[sandbox_id] = _Watch(record, self._core.clock.now())
        # of one that is suspended there is no guest that could end
        if watch.guard is None and record.sandbox.state != "suspended":
            watch.guard = asyncio.ensure_future(self._guard(record))
        watch.record = record
        watch.last_used = self._core.clock.now()
        self._schedule(watch)
        if self._runner is None:
            self._runner = asyncio.ensure_future(self._run())

    def forget(self, sandbox_id: str) -> None:
        watch = self._watched.pop(sandbox_id, None)
        for task in watch.tasks() if watch else []:
            if task is not asyncio.current_task():
                task.cancel()

    def beside(self, sandbox_id: str, work: Coroutine[Any, Any, None]) -> None:
        """To be done while a sandbox is watched, and given up with that."""
        self._watched[sandbox_id].beside = asyncio.ensure_future(work)

    def used(self, sandbox_id: str) -> None:
        """It is not idle now."""
        watch = self._watched.get(sandbox_id)
        if watch is not None:
            watch.last_used = self._core.clock.now()

    @contextmanager
    def using(self, sandbox_id: str) -> Iterator[None]:
        """While this is held the sandbox is not idle."""
        watch = self._watched.get(sandbox_id)
        if watch is None:
            yield
            return
        watch.users += 1
        try:
            yield
        finally:
            watch.users -= 1
            watch.last_used = self._core.clock.now()

    async def close(self) -> None:
        """Watch no more. The sandboxes go on, and what is being ended is ended."""
        tasks = [task for watch in self._watched.values() for task in watch.tasks()]
        if self._runner:
            tasks.append(self._runner)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._ending, return_exceptions=True)
        self._watched.clear()
        self._runner = None

    def _schedule(self, watch: _Watch) -> None:
        deadline = watch.deadline(self._core.clock.now())
        if deadline is not None:
            heapq.heappush(self._heap, (deadline, watch.record.sandbox.id))
            self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now = self._core.clock.now()
            while self._heap and self._heap[0][0] <= now:
                self._due(heapq.heappop(self._heap)[1], now)
            left = self._heap[0][0] - now if self._heap else None
            await self._core.clock.wait(self._wake, None if left is None else min(left, LOOK_AGAIN_SECONDS))

    def _due(self, sandbox_id: str, now: float) -> None:
        watch = self._watched.get(sandbox_id)
        deadline = watch.deadline(now) if watch else None
        if watch is None or deadline is None:
            return
        if deadline > now:
            if (deadline, sandbox_id) not in self._heap:
                heapq.heappush(self._heap, (deadline, sandbox_id))
            return
        # not again while this is going on; and again later if it fails
        watch.not_before = now + RETRY_SECONDS
        heapq.heappush(self._heap, (watch.not_before, sandbox_id))
        self._spawn(self._end(watch))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, watch: _Watch) -> None:
        sandbox_id = watch.record.sandbox.id
        if not watch.expired(self._core.clock.now()) and await self._is_busy(watch):
            watch.last_used, watch.not_before = self._core.clock.now(), 0.0
            self._schedule(watch)
            return
        async with self._core.locks.hold(sandbox_id):
            now = self._core.clock.now()
            idle_deadline = watch.idle_deadline(now)
            idle = idle_deadline is not None and idle_deadline <= now
            # it may have been extended, used or removed while this waited for its lock
            if self._watched.get(sandbox_id) is not watch or not (watch.expired(now) or idle):
                return
            await self._remove(sandbox_id, "expired" if watch.expired(now) else "idle")

    async def _remove(self, sandbox_id: str, reason: str) -> None:
        record = await self._core.store.get(sandbox_id)
        if record is None:
            self.forget(sandbox_id)
            return
        try:
            await teardown.remove(self._core, record, reason)
            self.forget(sandbox_id)
        except ClocheError:
            log.exception("sandbox %s is over (%s) but could not be removed", sandbox_id, reason)

    async def _is_busy(self, watch: _Watch) -> bool:
        """Somebody uses it, or a process or code that was started in it still runs."""
        if watch.users:
            return True
        try:
            guest = await self._core.guests.get(watch.record)
            if any(process.state == "running" for process in await guest.list_processes()):
                return True
            # the interpreters of contexts are not among the processes; an idle one only remembers
            return any(context.state in ("busy", "starting") for context in (await guest.list_contexts()).contexts)
        except ClocheError:
            return False

    async def _guard(self, record: SandboxRecord) -> None:
        status = await self._core.boxes.engine(record).wait(self._core.boxes.box(record))
        with contextlib.suppress(ClocheError):
            await to_the_end(self._ended(record.sandbox.id, status))

    async def _ended(self, sandbox_id: str, status: BoxStatus) -> None:
        async with self._core.locks.hold(sandbox_id):
            if sandbox_id not in self._watched:
                return
            self.forget(sandbox_id)
            record = await self._core.store.get(sandbox_id)
            if record is not None and record.sandbox.state in teardown.ALIVE:
                await teardown.ended(self._core, record, status)
