"""Machines that boot: the first of each template, those that start again with the disk they had, and all of them where
QEMU is too old for anything else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from cloche.engines.base import Box
from cloche.engines.launched import supervisor
from cloche.engines.launched.engine import end_all, make_directories
from cloche.engines.launched.facts import Facts
from cloche.engines.vm import captures, checks, disks, machine, monitor, vmms
from cloche.engines.vm.captures import Running
from cloche.engines.vm.ground import khz
from cloche.engines.vm.plan import DISK_FILE, Ground, Seat, nobodys_box
from cloche.engines.vm.waking import ANSWER_SECONDS, Guests
from cloche.model.errors import ClocheError, EngineError, SandboxDeadError
from cloche.model.ids import new_sandbox_id

#: what a template's guest has run before it is captured, so that the pages of the commonest programs are in its memory
WARMED = (["true"], ["sh", "-c", "true"], ["python3", "-c", "pass"])
ENDING_SECONDS = 5.0
MIB = 1 << 20


class Boots:
    def __init__(self, facts: Facts, home: Path, guests: Guests) -> None:
        self._facts, self._home, self._guests = facts, home, guests
        self.parent = home / "building"
        self._held: set[Path] = set()

    def held(self) -> set[Path]:
        """Directories of machines that are being made into templates now."""
        return set(self._held)

    async def fresh(self, box: Box, ground: Ground, *, owner: int = 0) -> None:
        """Boot with an empty disk."""
        disk = Path(box.state_dir, DISK_FILE)
        blank = await disks.blank_disk(self._home, monitor.state_size(box.engine_state).disk_mib)
        await asyncio.to_thread(disks.copy_disk, blank, disk)
        await self.boot(box, ground, disk, owner=owner)

    async def boot(self, box: Box, ground: Ground, disk: Path, *, owner: int = 0) -> None:
        """Returns when the guest answers. Raises EngineError with the console's last lines."""
        memory = self._nothing(box, ground)
        seat = Seat(run_dir=box.run_dir, root=ground.root, disk=str(disk), memory=memory)
        Running(seat=seat, requires=captures.requirements(ground), memory=None).write()
        words = machine.kernel_words(
            machine.Boot(vmm=ground.bundle.vmm, accelerator=ground.accelerator, host_khz=khz()),
            box.spec.limits.resolved(),
        )
        await vmms.of(box.engine_state).launch(
            self._facts, ground, seat, box.engine_state, sandbox_id=box.sandbox_id, words=words, deadline=box.deadline,
            owner=owner,
        )  # fmt: skip
        await self._answered(box)

    def _nothing(self, box: Box, ground: Ground) -> str | None:
        """A file without a byte in it, of the machine's size: all that the machine writes is its own."""
        if not ground.bundle.clones:
            return None
        place = Path(box.run_dir, "memory")
        place.unlink(missing_ok=True)
        with open(place, "xb") as file:
            file.truncate(monitor.state_size(box.engine_state).ram_mib * MIB)
        place.chmod(0o444)
        return str(place)

    async def _answered(self, box: Box) -> None:
        run_dir = Path(box.run_dir)
        written = supervisor.read_json(run_dir / "supervisor.json") or {}
        ended = asyncio.ensure_future(supervisor.wait_gone(int(written["supervisor_pid"])))
        asked = asyncio.ensure_future(self._reached(box))
        try:
            await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and isinstance(asked.exception(), SandboxDeadError):
                # the end of the channel is seen before the end of the process, whose last words are wanted
                await asyncio.wait({ended}, timeout=ENDING_SECONDS)
            if ended.done():
                said = checks.last_words(run_dir)
                raise EngineError(f"the machine ended while it booted: {said or 'it said nothing'}", stage="boot")
            await asked
        finally:
            for task in (ended, asked):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ClocheError):
                    await task

    async def _reached(self, box: Box) -> None:
        # a request waits less for its connection than a machine may take to boot
        try:
            await (await self._guests.channel(box).open()).close()
        except OSError as error:
            raise SandboxDeadError(f"the connection to the machine broke: {error}", reason="guest_died") from error
        await self._guests.guest(box).health(ANSWER_SECONDS)

    @contextlib.asynccontextmanager
    async def machine(self, like: Box, ground: Ground) -> AsyncIterator[Box]:
        """A machine of the same size that is nobody's and has booted; nothing of it stays."""
        place = self.parent / new_sandbox_id()
        box = nobodys_box(like, place)
        self._held.add(place)
        try:
            make_directories(box)
            await self.fresh(box, ground, owner=os.getpid())
            yield box
        finally:
            await self._taken_away(place)

    async def _taken_away(self, place: Path) -> None:
        self._guests.forget(place.name)
        await end_all(place)
        await asyncio.to_thread(shutil.rmtree, place, True)
        self._held.discard(place)

    async def template(self, like: Box, ground: Ground, directory: Path) -> captures.Manifest:
        """Boot one and capture it into `directory`."""
        async with self.machine(like, ground) as box:
            return await self._captured(box, directory)

    async def _captured(self, box: Box, directory: Path) -> captures.Manifest:
        await self._guests.wake(box, forked=False)
        await self._guests.warm(box, WARMED)
        running = Running.read(Path(box.run_dir))
        await self._guests.freeze(box)
        async with vmms.stopped(vmms.of(box.engine_state), Path(box.run_dir)) as stopped:
            await captures.take(self._facts, stopped, running, directory)
        taken = captures.Taken(size=monitor.state_size(box.engine_state))
        found = await captures.describe(running, taken, directory)
        return captures.read_manifest(found)
