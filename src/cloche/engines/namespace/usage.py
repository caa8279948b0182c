"""What boxes use now. Hundreds are asked about at a time, so those that are asked about at once share one thread:
handing each to a thread of its own costs more than the look itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cloche.engines.base import Box, BoxUsage
from cloche.engines.namespace import cgroups, supervisor

Waiting = list[tuple[Box, "asyncio.Future[BoxUsage]"]]


class Looks:
    def __init__(self) -> None:
        self._waiting: Waiting = []
        self._running: set[asyncio.Task[None]] = set()

    async def at(self, box: Box) -> BoxUsage:
        """Raises nothing: what cannot be read is None."""
        found: asyncio.Future[BoxUsage] = asyncio.get_running_loop().create_future()
        self._waiting.append((box, found))
        if len(self._waiting) == 1:
            task = asyncio.ensure_future(self._take())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await found

    async def _take(self) -> None:
        taken, self._waiting = self._waiting, []
        usages = await asyncio.to_thread(lambda: [usage_of(box) for box, _ in taken])
        for (_, found), usage in zip(taken, usages, strict=True):
            if not found.done():
                found.set_result(usage)


def usage_of(box: Box) -> BoxUsage:
    """What the supervisor and the cgroups say. Blocks, a quarter of a second at most."""
    reply = supervisor.ask_at_once(Path(box.run_dir) / "control.sock", b'{"op":"status"}\n')
    numbers: dict[str, Any] = cgroups.read_usage(box.engine_state.get("usage") or {})
    limit = box.spec.limits.resolved().memory_mib << 20
    return BoxUsage(
        **numbers,
        memory_limit_bytes=limit if "memory_bytes" in numbers else None,
        disk_bytes=reply.get("disk_bytes"),
        disk_limit_bytes=reply.get("disk_limit_bytes"),
        out_of_memory_kills=reply.get("oom_kills"),
    )
