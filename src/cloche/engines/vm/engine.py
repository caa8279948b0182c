"""The vm engine: a kernel of its own around the guest. QEMU, put by the launcher into a box that has nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec

from cloche.channel.base import Channel
from cloche.engines.base import Box, BoxStatus, BoxUsage, Capabilities, Check, Manifest, Report
from cloche.engines.launched.engine import LaunchedEngine, end_all, forget_last_run, make_directories, may_run
from cloche.engines.vm import captures, checks, choice, disks, monitor, plan, vmms
from cloche.engines.vm.boot import Boots
from cloche.engines.vm.captures import DEVICES, DISK, MEMORY, PAGES, Running
from cloche.engines.vm.ground import Grounds, accelerator
from cloche.engines.vm.plan import DISK_FILE, Ground, Seat
from cloche.engines.vm.standby import Standbys
from cloche.engines.vm.templates import Templates
from cloche.engines.vm.vmms import Asked
from cloche.engines.vm.waking import Guests
from cloche.model.errors import ClocheError, EngineError, SandboxDeadError
from cloche.model.limits import ResolvedLimits
from cloche.model.sandbox import SandboxSpec

#: in a run directory while its machine stands still for a capture
CAPTURING = "capturing"
#: more than a guest needs that can write at all
WRITE_OUT_SECONDS = 10.0
#: a node that starts asks for the status, and its clients wait for it
GO_ON_SECONDS = 5.0
ENFORCED = frozenset({"memory", "cpus", "pids", "disk", "open_files"})


class VmEngine(LaunchedEngine):
    """One per data directory. See engines.base.Engine for what each method promises."""

    name = "vm"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._grounds = Grounds(home, self.facts.guest)
        self._templates = Templates(home / "vm" / "templates")
        self._guests = Guests()
        self._standbys = Standbys(self.facts, home / "standby", self._guests)
        self._boots = Boots(self.facts, home, self._guests)
        self._capturing: set[str] = set()

    async def check(self) -> list[Check]:
        return await checks.run(self.facts, self.home)

    async def capabilities(self) -> Capabilities:
        modern = await asyncio.to_thread(checks.can_clone, self.home)
        return Capabilities(
            isolation="vm", pause=True, suspend=modern, memory_snapshot=modern, fork=modern, restart_keeps_disk=True,
            many_users=True, survives_node=True, limits_enforced=ENFORCED,
            emulated=accelerator(self.home) == "tcg",
            transparent_tcp=await asyncio.to_thread(checks.redirects, self.home),
        )  # fmt: skip

    async def setup(self, options: dict[str, str], report: Report) -> None:
        from cloche.engines.vm import probe, setup

        await setup.setup(self.home, self.facts.guest, options, report)
        await probe.probe(self.facts, self.home, self._grounds, self._boots, report)
        await self._grounds.renew(report)

    def plan(self, sandbox_id: str, spec: SandboxSpec) -> dict[str, Any]:
        return {**plan.engine_state(self.facts, self.tag, sandbox_id, spec), **choice.of_new(self.facts)}

    async def create(self, box: Box) -> None:
        make_directories(box)
        ground = await self._grounds.of(box.spec.image, vmm=vmms.of(box.engine_state).name)
        if not ground.bundle.clones or os.environ.get("CLOCHE_VM_TEMPLATES") == "0":
            await self._boots.fresh(box, ground)
        else:
            await self._clone(box, ground)
        await self._guests.wake(box, forked=False)

    async def start(self, box: Box) -> None:
        make_directories(box)
        forget_last_run(Path(box.run_dir))
        ground = await self._grounds.of(box.spec.image, vmm=vmms.of(box.engine_state).name)
        await self._boots.boot(box, ground, Path(box.state_dir, DISK_FILE))
        await self._guests.wake(box, forked=False)

    async def _clone(self, box: Box, ground: Ground) -> None:
        size = monitor.state_size(box.engine_state)
        template = await self._templates.get(
            ground, size, lambda directory: self._boots.template(box, ground, directory)
        )
        seat = _seat(box, ground)
        waited = await self._standbys.take(template, box, Path(seat.disk))
        if not waited:
            await self._waiting_on(box, ground, seat, template.path(MEMORY), template.path(DISK))
        Running(seat=seat, requires=captures.requirements(ground), memory=template.memory).write()
        if not waited:
            await vmms.of(box.engine_state).load(self.facts, seat, template.path(DEVICES), None)
        self._standbys.refill(box, ground, template)

    async def _waiting_on(self, box: Box, ground: Ground, seat: Seat, memory: Path, disk: Path) -> None:
        """A QEMU that waits for its state, on copies that cost nothing or little."""
        os.link(memory, str(seat.memory))
        # QEMU opens it by name, with an id that nobody has; a capture that came from elsewhere is its receiver's alone
        os.chmod(str(seat.memory), 0o444)
        Path(seat.disk).unlink(missing_ok=True)
        await asyncio.to_thread(disks.copy_disk, disk, Path(seat.disk))
        await self._launch(box, ground, seat)

    async def _launch(self, box: Box, ground: Ground, seat: Seat) -> None:
        await vmms.of(box.engine_state).launch(
            self.facts, ground, seat, box.engine_state, sandbox_id=box.sandbox_id, words=None, deadline=box.deadline
        )

    async def open_channel(self, box: Box) -> Channel:
        if not may_run(Path(box.run_dir)):
            raise SandboxDeadError(f"sandbox {box.sandbox_id} is not running", reason="guest_died")
        return self._guests.channel(box)

    async def status(self, box: Box) -> BoxStatus:
        found = checks.explained(await super().status(box), Path(box.run_dir))
        if found.status != "running":
            self._guests.forget(box.sandbox_id) if found.status != "paused" else None
            return found
        if Path(box.run_dir, CAPTURING).exists() and box.sandbox_id not in self._capturing:
            return await self._after_crash(box)
        return await self._as_qemu_says(box)

    async def _as_qemu_says(self, box: Box) -> BoxStatus:
        try:
            async with _asked(box) as asked:
                state = await asked.status()
        except (EngineError, SandboxDeadError):
            # busy with another connection, or about to end: the supervisor has just said that it lives
            state = "running"
        return BoxStatus(status="paused" if state == "paused" and box.sandbox_id not in self._capturing else "running")

    async def _after_crash(self, box: Box) -> BoxStatus:
        """A node was killed while the machine stood still for a capture: it goes on as it was. While its guest cannot
        be told to let its code run, the marker stays: whoever asks next tries again."""
        marker = Path(box.run_dir, CAPTURING)
        with contextlib.suppress(ClocheError, TimeoutError):
            if marker.read_text() == "running":
                async with asyncio.timeout(GO_ON_SECONDS):
                    await self.resume(box)
            marker.unlink(missing_ok=True)
        return await self._as_qemu_says(box)

    async def set_limits(self, box: Box, limits: ResolvedLimits) -> dict[str, Any]:
        raise EngineError("a machine's limits are fixed when it is made", stage="limits")

    def fixed_limits(self, box: Box, limits: ResolvedLimits) -> list[str]:
        old, new = (msgspec.to_builtins(each) for each in (box.spec.limits.resolved(), limits))
        return [name for name in ("memory_mib", "cpus", "pids", "disk_mib") if old[name] != new[name]]

    async def pause(self, box: Box) -> None:
        # frozen inside first: a fork of a paused machine must run nothing before it is told who it is
        await self._guests.freeze(box)
        async with _asked(box) as asked:
            await asked.stop()

    async def resume(self, box: Box) -> None:
        async with _asked(box) as asked:
            await asked.go_on()
        await self._guests.set_clock(box)
        await self._guests.thaw(box)

    async def capture(self, box: Box, directory: str, *, resume: bool = True, lasting: bool = True) -> Manifest:
        running, began = Running.read(Path(box.run_dir)), time.monotonic()
        async with self._standing_still(box, resume) as asked:
            await captures.take(self.facts, asked, running, Path(directory))
        seconds = round(time.monotonic() - began, 4)
        taken = captures.Taken(size=monitor.state_size(box.engine_state), stood_still_seconds=seconds)
        return await captures.describe(running, taken, Path(directory), sums=lasting)

    @contextlib.asynccontextmanager
    async def _standing_still(self, box: Box, resume: bool) -> AsyncIterator[Asked]:
        """Frozen inside, then stopped. Whatever happens to the capture, the machine goes on unless it was paused."""
        async with _asked(box) as asked:
            was = await asked.status()
            marker = Path(box.run_dir, CAPTURING)
            marker.write_text(was)
            self._capturing.add(box.sandbox_id)
            done = False
            try:
                if was == "running":
                    await self._guests.freeze(box)
                    await asked.stop()
                yield asked
                done = True
            finally:
                try:
                    await self._guests.was_captured(box)
                    if was == "running" and (resume or not done):
                        await asked.go_on()
                        await self._guests.thaw(box)
                finally:
                    # also of a guest that refuses: it is not being captured any more
                    marker.unlink(missing_ok=True)
                    self._capturing.discard(box.sandbox_id)

    async def restore(self, box: Box, directory: str, manifest: Manifest, *, forked: bool) -> None:
        make_directories(box)
        forget_last_run(Path(box.run_dir))
        found = captures.read_manifest(manifest)
        ground = await self._grounds.of(box.spec.image, found.requires.root, vmm=vmms.of(box.engine_state).name)
        captures.require_same(found.requires, ground)
        captures.require_size(found, monitor.state_size(box.engine_state))
        source = Path(directory)
        await captures.check_files(found, source, whole=False)
        await self._restored(box, ground, found, source)
        await self._guests.wake(box, forked=forked)

    async def _restored(self, box: Box, ground: Ground, found: captures.Manifest, source: Path) -> None:
        seat, vmm = _seat(box, ground), vmms.of(box.engine_state)
        Running(seat=seat, requires=found.requires, memory=found.files[vmm.base]).write()
        await self._waiting_on(box, ground, seat, source / vmm.base, source / DISK)
        await vmm.load(self.facts, seat, source / DEVICES, source / PAGES)

    async def verify(self, directory: str, manifest: Manifest) -> None:
        found = captures.read_manifest(manifest)
        await captures.check_files(found, Path(directory), whole=True)
        captures.require_same(found.requires, await self._grounds.of("host", found.requires.root))

    async def usage(self, box: Box) -> BoxUsage:
        """What is used inside, only the guest knows; CPU time is the whole monitor's."""
        found = await super().usage(box)
        limit = box.spec.limits.resolved()
        return BoxUsage(
            cpu_seconds=found.cpu_seconds, memory_limit_bytes=limit.memory_mib << 20,
            disk_limit_bytes=limit.disk_mib << 20,
        )  # fmt: skip

    async def stop(self, box: Box, *, keep_disk: bool) -> BoxStatus:
        if keep_disk and may_run(Path(box.run_dir)):
            await self._write_out(box)
        self._guests.forget(box.sandbox_id)
        ended = checks.explained(await super().stop(box, keep_disk=keep_disk), Path(box.run_dir))
        if not keep_disk:
            Path(box.state_dir, DISK_FILE).unlink(missing_ok=True)
        return ended

    async def _write_out(self, box: Box) -> None:
        """What the machine has not written to its disk ends with it. One that is paused was frozen, and wrote then; one
        whose guest cannot has lost its last writes, as without power."""
        with contextlib.suppress(ClocheError, TimeoutError):
            async with asyncio.timeout(WRITE_OUT_SECONDS):
                if (await self._as_qemu_says(box)).status == "running":
                    await self._guests.freeze(box)

    async def remove(self, box: Box) -> None:
        self._guests.forget(box.sandbox_id)
        await super().remove(box)

    async def close(self) -> None:
        await self._standbys.close()

    async def sweep(self, known: frozenset[str]) -> list[str]:
        """Also machines that nobody has asked for yet, and templates that were not finished."""
        removed = await super().sweep(known)
        for directory in await asyncio.to_thread(self._unfinished):
            await end_all(directory)
            await asyncio.to_thread(shutil.rmtree, directory, True)
            removed.append(f"machine {directory.name}")
        return removed

    def _unfinished(self) -> list[Path]:
        places = (self._standbys.parent.glob("*"), self._boots.parent.glob("*"), self._templates.parent.glob(".*"))
        held = {*self._standbys.held(), *self._boots.held()}
        return sorted(path for found in places for path in found if path not in held)


def _asked(box: Box) -> AbstractAsyncContextManager[Asked]:
    return vmms.of(box.engine_state).asked(Path(box.run_dir))


def _seat(box: Box, ground: Ground) -> Seat:
    run_dir = Path(box.run_dir)
    return Seat(
        run_dir=box.run_dir, root=ground.root, disk=str(Path(box.state_dir, DISK_FILE)), memory=str(run_dir / "memory")
    )
