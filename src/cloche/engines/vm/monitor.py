"""One QEMU in its box: started by the launcher, spoken to over QMP, reached over its channel."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cloche.engines.launched import supervisor
from cloche.engines.launched.facts import Facts
from cloche.engines.vm import machine, pages, plan
from cloche.engines.vm.plan import Ground, Seat, Size
from cloche.engines.vm.qmp import Qmp
from cloche.model.errors import EngineError, SandboxDeadError

LOAD_SECONDS = 30.0
_FDSET = 9
#: the state of the devices is some 10 KB; what is larger than this is not one
MAX_DEVICES_BYTES = 64 << 20


async def launch(
    facts: Facts, ground: Ground, seat: Seat, state: dict[str, Any], *, sandbox_id: str, words: str | None,
    deadline: float | None = None, owner: int = 0,
) -> None:  # fmt: skip
    """Start QEMU, to boot with these `words` for its kernel, or without to wait for a state. Raises EngineError."""
    described = plan.described(ground, state_size(state), words or "")
    memory = plan.MEMORY_INSIDE if seat.memory else None
    argv = machine.qemu_argv(described, plan.FILES, incoming=words is None, memory=memory, sockets=plan.SOCKETS)
    wanted = plan.launcher_plan(
        facts, ground, seat, state, argv[1:], sandbox_id=sandbox_id, deadline=deadline, owner=owner
    )
    await supervisor.launch(facts.launcher, wanted)


def state_size(state: dict[str, Any]) -> Size:
    return Size(**state["size"])


def pid_of(run_dir: Path) -> int:
    """QEMU's. Raises SandboxDeadError."""
    written = supervisor.read_json(run_dir / "supervisor.json")
    if written is None:
        raise SandboxDeadError("the machine does not run", reason="guest_died")
    return int(written["init_pid"])


async def qmp(run_dir: Path) -> Qmp:
    return await Qmp.connect(run_dir / "qmp.sock")


async def load(facts: Facts, seat: Seat, devices: Path, changed: Path | None) -> None:
    """Give a waiting QEMU its state and let it run. `changed`: pages that differ from the memory it was started on."""
    run_dir = Path(seat.run_dir)
    # who answers has mapped its memory
    async with await qmp(run_dir) as monitor:
        if changed is not None and seat.memory is not None:
            await pages.load(facts.launcher, pid_of(run_dir), Path(seat.memory), changed)
        descriptor = os.open(devices, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await monitor.execute("getfd", fds=[descriptor], fdname="state")
        finally:
            os.close(descriptor)
        await monitor.execute("migrate-incoming", uri="fd:state")
        # it begins to run by itself as soon as it has everything, and ends when it cannot take it
        await monitor.event("RESUME", LOAD_SECONDS)


@asynccontextmanager
async def stopped(run_dir: Path) -> AsyncIterator[Qmp]:
    """Its processors stand still inside, and what its devices had begun is done."""
    async with await qmp(run_dir) as monitor:
        was = (await monitor.execute("query-status"))["status"]
        await monitor.execute("stop")
        try:
            yield monitor
        finally:
            if was == "running":
                await monitor.execute("cont")


async def save_devices(monitor: Qmp, target: Path) -> int:
    """Everything of the machine but its memory and disks, into a new file; its size. `xen-save-devices-state` is no
    more Xen's than anybody's: it writes what a migration would write of the devices (migration/savevm.c)."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        await monitor.execute("add-fd", fds=[descriptor], fdset_id=_FDSET)
        try:
            await monitor.execute("xen-save-devices-state", filename=f"/dev/fdset/{_FDSET}", live=False)
        finally:
            await monitor.execute("remove-fd", fdset_id=_FDSET)
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if not 0 < size <= MAX_DEVICES_BYTES:
        raise EngineError(f"QEMU wrote {size} bytes of state", stage="save devices")
    return size
