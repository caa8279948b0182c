"""The guest of a machine as its engine needs it: asleep for a capture, and told who it is after every start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from cloche.engines.base import Box
from cloche.engines.launched import supervisor
from cloche.engines.vm import vmms
from cloche.engines.vm.vmms import MovableChannel
from cloche.guest_api import Guest, Wake
from cloche.images import host
from cloche.model.errors import ClocheError
from cloche.model.process import ProcessSpec

#: a machine that boots answers late, and one under emulation on a busy host later
ANSWER_SECONDS = 60.0
ENTROPY_BYTES = 64
WARM_SECONDS = 20.0
REHEARSALS = 3


class Guests:
    """One channel for each machine: QEMU serves one connection at a time, so everybody has to share it."""

    def __init__(self) -> None:
        self._links: dict[str, tuple[MovableChannel, Guest]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def channel(self, box: Box) -> MovableChannel:
        return self._link(box)[0]

    def guest(self, box: Box) -> Guest:
        return self._link(box)[1]

    def _link(self, box: Box) -> tuple[MovableChannel, Guest]:
        found = self._links.get(box.sandbox_id)
        if found is None:
            channel = vmms.of(box.engine_state).channel(Path(box.run_dir), ANSWER_SECONDS)
            found = self._links[box.sandbox_id] = channel, Guest(channel)
        return found

    def hand_over(self, sandbox_id: str, box: Box) -> None:
        """The machine that was this one is that box from now on."""
        link = self._links.pop(sandbox_id, None)
        if link is not None:
            link[0].moved(vmms.of(box.engine_state).channel_path(Path(box.run_dir)))
            self._links[box.sandbox_id] = link

    def forget(self, sandbox_id: str) -> None:
        """Whoever still reads learns that the machine is gone."""
        link = self._links.pop(sandbox_id, None)
        if link is not None:
            task = asyncio.ensure_future(_close(*link))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def wake(self, box: Box, *, forked: bool) -> None:
        """Tell it who it is, what time it is, and give it chance of its own. Raises GuestError, SandboxDeadError."""
        written = supervisor.read_json(Path(box.run_dir, "supervisor.json")) or {}
        limits = box.spec.limits.resolved()
        await self.guest(box).wake(Wake(
            sandbox_id=box.sandbox_id, nonce=str(written.get("nonce", "")), hostname=box.hostname,
            machine_id=host.machine_id(box.sandbox_id), time=time.time(), entropy=os.urandom(ENTROPY_BYTES),
            forked=forked, memory_mib=limits.memory_mib, pids=limits.pids, cpus=limits.cpus,
        ))  # fmt: skip

    async def warm(self, box: Box, commands: Sequence[Sequence[str]]) -> None:
        """Run them, and leave no trace of them. What is missing in the image is left out."""
        guest = self.guest(box)
        for argv in commands:
            with contextlib.suppress(ClocheError):
                process = await guest.start_process(ProcessSpec(argv=list(argv)))
                await guest.wait_process(process.id, WARM_SECONDS)
                await guest.forget_process(process.id)

    async def rehearse(self, box: Box) -> None:
        """What will be asked first of a machine that waits: afterwards all of that has been translated."""
        guest, limits = self.guest(box), box.spec.limits.resolved()
        for _ in range(REHEARSALS):
            await guest.health()
            await guest.configure_session(
                box.sandbox_id, user=box.spec.user, open_files=limits.open_files, pids=limits.pids
            )
            await self._rehearse_command(guest)
            await self.wake(box, forked=False)

    async def _rehearse_command(self, guest: Guest) -> None:
        async with guest.follow_process(ProcessSpec(argv=["true"])) as frames:
            async for _ in frames:
                pass
        for process in await guest.list_processes():
            await guest.forget_process(process.id)

    async def freeze(self, box: Box) -> None:
        await self.guest(box).freeze()

    async def thaw(self, box: Box) -> None:
        await self.guest(box).thaw()

    async def was_captured(self, box: Box) -> None:
        """Streams of before may look alive and lead nowhere."""
        if vmms.of(box.engine_state).ends_streams and box.sandbox_id in self._links:
            await self.channel(box).close()

    async def set_clock(self, box: Box) -> None:
        """A machine that stood still has not seen the time pass."""
        await self.guest(box).set_clock(time.time())


async def _close(channel: MovableChannel, guest: Guest) -> None:
    with contextlib.suppress(ClocheError, OSError):
        await guest.close()
        await channel.close()
