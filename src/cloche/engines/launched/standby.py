"""A launcher that was started before anybody asked for a sandbox, so that making one need not wait for processes and
namespaces. It has no plan, holds nothing but its own memory, and ends by itself when this process does: its standard
input ends then (docs/decisions/0008-standby-launcher.md)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path

from cloche.engines.launched import supervisor
from cloche.model.errors import ClocheError

#: without a new sandbox for so long, the memory is worth more than the milliseconds
QUIET_SECONDS = 120.0
#: the guest of the sandbox that was made comes first
REFILL_SECONDS = 0.008
Process = subprocess.Popen[bytes]


def wanted() -> bool:
    """Whether there should be one: CLOCHE_STANDBY=0 says no."""
    return os.environ.get("CLOCHE_STANDBY", "1") != "0"


class Standby:
    """At most one launcher in waiting. All of it belongs to one event loop, and what waits ends with that."""

    def __init__(self) -> None:
        self._held: tuple[Process, tuple[int, int]] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._called = asyncio.Event()

    def take(self, launcher: Path) -> Process | None:
        """The one in waiting, if it still lives and is that very program; whoever takes it must see to its end."""
        held, self._held = self._held, None
        if held is None:
            return None
        process, stamp = held
        if process.poll() is None and stamp == _stamp(launcher):
            return process
        discard(process)
        return None

    def refill(self, launcher: Path) -> None:
        """Have one again soon, for QUIET_SECONDS from now."""
        if not wanted():
            return
        if self._keeper is None or self._keeper.done():
            self._called = asyncio.Event()
            self._keeper = asyncio.ensure_future(self._keep(launcher))
        self._called.set()

    def close(self) -> None:
        """Have none from now on."""
        if self._keeper is not None:
            self._keeper.cancel()

    async def _keep(self, launcher: Path) -> None:
        # who cannot start one is told why by the next sandbox; nobody asked for a while: TimeoutError
        with contextlib.suppress(ClocheError, TimeoutError):
            try:
                while True:
                    await asyncio.wait_for(self._called.wait(), QUIET_SECONDS)
                    self._called.clear()
                    await asyncio.sleep(REFILL_SECONDS)
                    if self._held is None:
                        await supervisor.uninterrupted(self._fill, launcher)
            finally:
                if self._held is not None:
                    discard(self._held[0])
                    self._held = None

    def _fill(self, launcher: Path) -> None:
        stamp = _stamp(launcher)
        self._held = supervisor.start(launcher), stamp


def discard(process: Process) -> None:
    """End a launcher that has made nothing. The box's first process, which it has cloned already, dies with it."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.kill()
    process.wait()


def _stamp(launcher: Path) -> tuple[int, int]:
    try:
        found = launcher.stat()
    except OSError:
        return (0, 0)
    return found.st_ino, found.st_mtime_ns
