"""What all living sandboxes use, in one look.

One sandbox that does not answer must not keep the others waiting: each has a time limit, only so many are asked at
once, and who was late is left alone for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cloche.model.errors import ClocheError
from cloche.model.events import DEFAULT_PROJECT, MAX_PAGE, NodeStats, SandboxQuery, SandboxStats, SandboxUse
from cloche.model.lifecycle import LIVING
from cloche.model.sandbox import Sandbox, SandboxRecord
from cloche.service.core import Core

AT_ONCE = 32
LIMIT_SECONDS = 0.5
#: for how long a sandbox that did not answer in time is not asked again
LEFT_ALONE_SECONDS = 10.0

Measure = Callable[[SandboxRecord], Awaitable[SandboxStats]]


class Statistics:
    def __init__(self, core: Core, measure: Measure, *, limit_seconds: float = LIMIT_SECONDS) -> None:
        self._core = core
        self._measure = measure
        self._limit_seconds = limit_seconds
        self._running: dict[str, asyncio.Task[NodeStats]] = {}
        self._late: dict[str, float] = {}

    async def all(self, *, project_id: str = DEFAULT_PROJECT) -> NodeStats:
        """Everything that lives. Who asks while a look is under way gets the result of that one."""
        look = self._running.get(project_id)
        if look is None:
            look = self._running[project_id] = asyncio.ensure_future(self._look(project_id))
            look.add_done_callback(lambda _: self._running.pop(project_id, None))
        return await asyncio.shield(look)

    async def _look(self, project_id: str) -> NodeStats:
        now = self._core.clock.now()
        self._late = {key: until for key, until in self._late.items() if until > now}
        gate = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(self._one(gate, record) for record in await self._living(project_id)))
        return NodeStats(time=now, sandboxes=[SandboxUse(sandbox=sandbox, stats=stats) for sandbox, stats in found])

    async def _living(self, project_id: str) -> list[SandboxRecord]:
        found: list[SandboxRecord] = []
        while True:
            cursor = found[-1].sandbox.id if found else None
            query = SandboxQuery(states=LIVING, limit=MAX_PAGE, cursor=cursor)
            page = await self._core.store.select(project_id, query)
            found += page
            if len(page) < MAX_PAGE:
                return found

    async def _one(self, gate: asyncio.Semaphore, record: SandboxRecord) -> tuple[Sandbox, SandboxStats]:
        sandbox = record.sandbox
        unknown = SandboxStats(time=self._core.clock.now(), pids_limit=sandbox.limits.pids)
        if sandbox.state not in ("running", "paused"):
            return sandbox, unknown
        async with gate:
            if sandbox.id in self._late:
                return sandbox, unknown
            try:
                async with asyncio.timeout(self._limit_seconds):
                    return sandbox, await self._measure(record)
            except TimeoutError:
                self._late[sandbox.id] = self._core.clock.now() + LEFT_ALONE_SECONDS
            except ClocheError:
                pass
            return sandbox, unknown
