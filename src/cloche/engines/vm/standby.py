"""QEMUs that wait for the state of a machine, so that a clone need not wait for QEMU to start, which takes longer than
everything else of it. They run no code of anybody's, and each ends with the node that it was started for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from cloche.engines.base import Box
from cloche.engines.launched import cgroups, supervisor
from cloche.engines.launched.engine import end_all
from cloche.engines.launched.facts import Facts
from cloche.engines.vm import captures, disks, monitor
from cloche.engines.vm.plan import Ground, Seat
from cloche.engines.vm.templates import Template
from cloche.model.errors import ClocheError
from cloche.model.ids import new_sandbox_id

#: how long one waits after the last clone of its template
QUIET_SECONDS = 120.0
#: the machine that was just made comes first
REFILL_SECONDS = 0.02
KEPT_STATE = ("version", "ids", "size")


class Standbys:
    """CLOCHE_VM_STANDBY of them for the template that was cloned last; 1 unless said otherwise."""

    def __init__(self, facts: Facts, parent: Path) -> None:
        self._facts, self.parent = facts, parent
        self._waiting: list[tuple[str, Path]] = []
        self._filling: set[asyncio.Task[None]] = set()
        self._made: set[Path] = set()
        self._quiet: asyncio.TimerHandle | None = None
        self._one_at_a_time = asyncio.Lock()
        self._closed = False

    @property
    def most(self) -> int:
        return max(0, min(64, int(os.environ.get("CLOCHE_VM_STANDBY", "1"))))

    def held(self) -> set[Path]:
        return set(self._made)

    async def take(self, template: Template, box: Box, disk: str) -> bool:
        """Put one that waits into this box. False when there is none that fits."""
        while (found := self._pop(template.key)) is not None:
            if await self._move(found, box, disk):
                return True
            await self._discard(found)
        return False

    def _pop(self, key: str) -> Path | None:
        place = next((path for known, path in self._waiting if known == key), None)
        if place is not None:
            self._waiting.remove((key, place))
        return place

    async def _move(self, place: Path, box: Box, disk: str) -> bool:
        """Its sockets and its supervisor's working directory move with the directory."""
        try:
            if box.deadline:
                await supervisor.ask(place, {"op": "deadline", "deadline": box.deadline})
            reply = await supervisor.ask(place, {"op": "disown"})
            if reply is None:
                return False
            os.rename(place / "disk.img", disk)
            os.rename(place, box.run_dir)
            cgroups.enter(box.engine_state.get("cgroups", []), int(reply["init_pid"]))
        except (OSError, ClocheError):
            return False
        self._made.discard(place)
        return True

    def refill(self, ground: Ground, template: Template, state: dict[str, Any]) -> None:
        """Have as many as there should be again soon."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = loop.call_later(QUIET_SECONDS, self._end_all)
        task = asyncio.ensure_future(self._fill(ground, template, state))
        self._filling.add(task)
        task.add_done_callback(self._filling.discard)

    async def _fill(self, ground: Ground, template: Template, state: dict[str, Any]) -> None:
        await asyncio.sleep(REFILL_SECONDS)
        async with self._one_at_a_time:
            await self._keep_only(template.key)
            while not self._closed and len(self._waiting) < self.most:
                place = self.parent / new_sandbox_id()
                try:
                    await self._start(ground, template, state, place)
                except (ClocheError, OSError):
                    # who cannot start one is told why by the next sandbox
                    await self._discard(place)
                    return
                self._waiting.append((template.key, place))

    async def _keep_only(self, wanted: str) -> None:
        for key, place in list(self._waiting):
            if key != wanted:
                self._waiting.remove((key, place))
                await self._discard(place)

    async def _start(self, ground: Ground, template: Template, state: dict[str, Any], place: Path) -> None:
        self._made.add(place)
        place.mkdir(0o700, parents=True)
        memory, disk = str(place / captures.MEMORY), place / "disk.img"
        os.link(template.path(captures.MEMORY), memory)
        await asyncio.to_thread(disks.copy_disk, template.path(captures.DISK), disk)
        seat = Seat(run_dir=str(place), root=ground.root, disk=str(disk), memory=memory)
        # without cgroups: those are its sandbox's, and it enters them before it runs anything of that
        kept = {key: state[key] for key in KEPT_STATE}
        await monitor.launch(self._facts, ground, seat, kept, sandbox_id=place.name, words=None, owner=os.getpid())

    async def close(self) -> None:
        """End those that wait, and those that are being started when they have been."""
        self._closed = True
        if self._quiet is not None:
            self._quiet.cancel()
        self._end_all()
        await asyncio.gather(*self._filling, return_exceptions=True)
        self._end_all()
        await asyncio.gather(*self._filling, return_exceptions=True)

    def _end_all(self) -> None:
        for _, place in self._waiting:
            task = asyncio.ensure_future(self._discard(place))
            self._filling.add(task)
            task.add_done_callback(self._filling.discard)
        self._waiting.clear()

    async def _discard(self, place: Path) -> None:
        with contextlib.suppress(ClocheError):
            await end_all(place)
        await asyncio.to_thread(shutil.rmtree, place, True)
        self._made.discard(place)
