"""What a client hears while a call is under way: progress notifications with the newest output, few and short."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from cloche.mcp import bounds

Report = Callable[[float, float | None, str | None], Awaitable[None]]
#: at most so often; and at least so often, since clients take silence for death
MIN_SECONDS, MAX_SECONDS = 0.2, 5.0
MAX_MESSAGE_BYTES = 4096
#: after so many a call's output is no longer told, only that it goes on
MAX_TOLD = 1000


class Narration:
    """Gathers output and reports it: `progress` is seconds since the beginning, `total` those it may take."""

    def __init__(self, report: Report, total: float | None) -> None:
        self._report, self._total = report, total
        self._began = time.monotonic()
        self._fresh = bytearray()
        self._told = 0
        self._news = asyncio.Event()

    def add(self, data: bytes) -> None:
        self._fresh = (self._fresh + data)[-MAX_MESSAGE_BYTES:]
        self._news.set()

    async def run(self) -> None:
        while True:
            # wait_for of Python 3.11 loses a cancellation that comes together with news
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAX_SECONDS):
                    await self._news.wait()
            await self._report(round(time.monotonic() - self._began, 3), self._total, self._message())
            await asyncio.sleep(MIN_SECONDS if self._told < MAX_TOLD else MAX_SECONDS)

    def _message(self) -> str | None:
        self._news.clear()
        text, self._fresh = bounds.plain(bytes(self._fresh)), bytearray()
        self._told += 1
        return text if text and self._told < MAX_TOLD else "running"


@contextlib.asynccontextmanager
async def narrated(report: Report | None, total: float | None) -> AsyncIterator[Callable[[bytes], None]]:
    """Report beside the body what is given to the function that it gets. None: nobody listens."""
    if report is None:
        yield lambda data: None
        return
    narration = Narration(report, total)
    task = asyncio.ensure_future(narration.run())
    try:
        yield narration.add
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
