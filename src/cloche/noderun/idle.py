"""When a node has nothing left to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Idleness:
    """Counts requests; `until_idle` returns when none came for so long and nothing lives. It looks when that could be
    true at the earliest, so a request costs it nothing but the count."""

    def __init__(self, seconds: float, living: Callable[[], int]) -> None:
        """`seconds` 0: never idle. `living`: how many sandboxes need the node."""
        self._seconds = seconds
        self._living = living
        self._running = 0
        self._last = time.monotonic()

    def began(self) -> None:
        self._running += 1

    def ended(self) -> None:
        self._running -= 1
        self._last = time.monotonic()

    async def until_idle(self) -> None:
        if self._seconds == 0:
            await asyncio.Event().wait()
        while (left := self._left()) > 0:  # noqa: ASYNC110 - time itself is what is waited for
            await asyncio.sleep(left)

    def _left(self) -> float:
        """Seconds until it can be idle at the earliest."""
        if self._running or self._living():
            return self._seconds
        return self._last + self._seconds - time.monotonic()
