"""What boxes use now. Hundreds are asked about at a time, so those that are asked about at once share one thread:
handing each to a thread of its own costs more than the look itself."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from cloche.engines.base import Box, BoxUsage
from cloche.engines.launched import cgroups, supervisor

QUESTION = b'{"op":"status"}\n'
ANSWER_SECONDS = 0.25
log = logging.getLogger("cloche.engines")
Waiting = list[tuple[Box, "asyncio.Future[BoxUsage]"]]


class Looks:
    """One batch at a time: several threads would only wait for one another. Who comes meanwhile is in the next."""

    def __init__(self) -> None:
        self._waiting: Waiting = []
        self._running: asyncio.Task[None] | None = None

    async def at(self, box: Box) -> BoxUsage:
        """Raises nothing: what cannot be read is None."""
        found: asyncio.Future[BoxUsage] = asyncio.get_running_loop().create_future()
        self._waiting.append((box, found))
        if self._running is None:
            self._running = asyncio.ensure_future(self._take())
        return await found

    async def _take(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                _settle(taken, await self._look([box for box, _ in taken]))
        finally:
            self._running = None

    async def _look(self, boxes: list[Box]) -> list[BoxUsage]:
        try:
            return await asyncio.to_thread(usages_of, boxes)
        except Exception:
            # whoever waits for a look that failed would wait for ever
            log.exception("what boxes use cannot be read")
            return [BoxUsage()] * len(boxes)


def _settle(taken: Waiting, usages: list[BoxUsage]) -> None:
    for (_, found), usage in zip(taken, usages, strict=True):
        if not found.done():
            found.set_result(usage)


def usages_of(boxes: list[Box]) -> list[BoxUsage]:
    """What supervisors and cgroups say. The supervisors answer while the cgroups are read; all of them together have
    a quarter of a second, so those that hang cost no more than one. Blocks."""
    asked = [supervisor.begin_asking(Path(box.run_dir) / "control.sock", QUESTION) for box in boxes]
    read = [cgroups.read_usage(box.engine_state.get("usage") or {}) for box in boxes]
    deadline = time.monotonic() + ANSWER_SECONDS
    replies = [supervisor.end_asking(sock, deadline - time.monotonic()) for sock in asked]
    return [_usage(box, numbers, reply) for box, numbers, reply in zip(boxes, read, replies, strict=True)]


def _usage(box: Box, numbers: dict[str, Any], reply: dict[str, Any]) -> BoxUsage:
    limit = box.spec.limits.resolved().memory_mib << 20
    return BoxUsage(
        **numbers,
        memory_limit_bytes=limit if "memory_bytes" in numbers else None,
        disk_bytes=reply.get("disk_bytes"),
        disk_limit_bytes=reply.get("disk_limit_bytes"),
        out_of_memory_kills=reply.get("oom_kills"),
    )
