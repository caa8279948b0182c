"""When a node has nothing left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Idleness:
    """Counts requests; `until_idle` returns when none came for so long and nothing lives."""

    def __init__(self, seconds: float, living: Callable[[], int]) -> None:
        """`seconds` 0: never idle. `living`: how many sandboxes need the node."""
        self._seconds = seconds
        self._living = living
        self._running = 0
        self._count = 0
        self._changed = asyncio.Event()

    def began(self) -> None:
        self._running += 1
        self._count += 1
        self._changed.set()

    def ended(self) -> None:
        self._running -= 1
        self._count += 1
        self._changed.set()

    async def until_idle(self) -> None:
        while not await self._quiet() or self._running or self._living():
            pass

    async def _quiet(self) -> bool:
        """Wait out one whole span; False when a request began or ended in it."""
        self._changed.clear()
        before = self._count
        if self._seconds == 0 or self._running:
            await self._changed.wait()
            return False
        try:
            async with asyncio.timeout(self._seconds):
                await self._changed.wait()
        except TimeoutError:
            return self._count == before
        return False
