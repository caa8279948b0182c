"""Clones that run already and are nobody's yet, so that a sandbox need not wait for QEMU to start, nor for the code of
kernel and guest to be translated, which takes an emulated processor longer than everything else of it.

Nothing of a user's has ever run in them, and whoever gets one is told who it is as every clone is. Each ends with the
node that it was started for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from cloche.engines.base import Box
from cloche.engines.launched import cgroups, supervisor
from cloche.engines.launched.engine import end_all
from cloche.engines.launched.facts import Facts
from cloche.engines.vm import captures, disks, vmms
from cloche.engines.vm.plan import DISK_FILE, Ground, Seat, nobodys_box
from cloche.engines.vm.templates import Template
from cloche.engines.vm.waking import Guests
from cloche.model.errors import ClocheError
from cloche.model.ids import new_sandbox_id

#: how long one waits after the last clone of its template
QUIET_SECONDS = 120.0
#: the machine that was just made comes first
REFILL_SECONDS = 0.05


class Standbys:
    """CLOCHE_VM_STANDBY of them for the template that was cloned last; 1 unless said otherwise."""

    def __init__(self, facts: Facts, parent: Path, guests: Guests) -> None:
        self._facts, self.parent, self._guests = facts, parent, guests
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

    async def take(self, template: Template, box: Box, disk: Path) -> bool:
        """Make one that waits this box. False when there is none that fits, or it is of no use any more."""
        while (found := self._pop(template.key)) is not None:
            if await self._becomes(found, box, disk):
                return True
            self._guests.forget(box.sandbox_id)
            await self._discard(found)
            await _empty(Path(box.run_dir))
        return False

    def _pop(self, key: str) -> Path | None:
        place = next((path for known, path in self._waiting if known == key), None)
        if place is not None:
            self._waiting.remove((key, place))
        return place

    async def _becomes(self, place: Path, box: Box, disk: Path) -> bool:
        """Its sockets and its supervisor's working directory move with the directory. Until it is told that it is no
        longer this node's, it ends with the node."""
        run_dir = Path(box.run_dir)
        try:
            os.rename(place / DISK_FILE, disk)
            os.rename(place, run_dir)
            self._made.discard(place)
            self._guests.hand_over(place.name, box)
            if box.deadline:
                await supervisor.ask(run_dir, {"op": "deadline", "deadline": box.deadline})
            reply = await supervisor.ask(run_dir, {"op": "disown"})
            cgroups.enter(box.engine_state.get("cgroups", []), int((reply or {})["init_pid"]))
        except (OSError, ClocheError, KeyError):
            return False
        return True

    def refill(self, like: Box, ground: Ground, template: Template) -> None:
        """Have as many as there should be again soon."""
        if self._closed:
            return
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._end_all)
        self._begin(self._fill(like, ground, template))

    async def _fill(self, like: Box, ground: Ground, template: Template) -> None:
        await asyncio.sleep(REFILL_SECONDS)
        async with self._one_at_a_time:
            await self._keep_only(template.key)
            while not self._closed and len(self._waiting) < self.most:
                place = self.parent / new_sandbox_id()
                try:
                    await self._start(like, ground, template, place)
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

    async def _start(self, like: Box, ground: Ground, template: Template, place: Path) -> None:
        self._made.add(place)
        place.mkdir(0o700, parents=True)
        memory, disk = str(place / captures.MEMORY), place / DISK_FILE
        os.link(template.path(captures.MEMORY), memory)
        await asyncio.to_thread(disks.copy_disk, template.path(captures.DISK), disk)
        seat = Seat(run_dir=str(place), root=ground.root, disk=str(disk), memory=memory)
        box = nobodys_box(like, place)
        vmm = vmms.of(box.engine_state)
        await vmm.launch(
            self._facts, ground, seat, box.engine_state, sandbox_id=place.name, words=None, owner=os.getpid()
        )
        await vmm.load(self._facts, seat, template.path(captures.DEVICES), None)
        await self._guests.wake(box, forked=False)
        await self._guests.rehearse(box)

    async def close(self) -> None:
        """End those that wait, and those that are being started when they have been."""
        self._closed = True
        if self._quiet is not None:
            self._quiet.cancel()
        while self._waiting or self._filling:
            self._end_all()
            await asyncio.gather(*self._filling, return_exceptions=True)

    def _end_all(self) -> None:
        for _, place in self._waiting:
            self._begin(self._discard(place))
        self._waiting.clear()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._filling.add(task)
        task.add_done_callback(self._filling.discard)

    async def _discard(self, place: Path) -> None:
        self._guests.forget(place.name)
        with contextlib.suppress(ClocheError):
            await end_all(place)
        await asyncio.to_thread(shutil.rmtree, place, True)
        self._made.discard(place)


async def _empty(run_dir: Path) -> None:
    """One that has moved and is of no use."""
    with contextlib.suppress(ClocheError):
        await end_all(run_dir)
    await asyncio.to_thread(shutil.rmtree, run_dir, True)
    run_dir.mkdir(0o700, exist_ok=True)
