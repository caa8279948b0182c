"""One QEMU in its box: started by the launcher, spoken to over QMP, reached over its channel."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from cloche.engines.launched import supervisor
from cloche.engines.launched.facts import Facts
from cloche.engines.vm import disks, machine, pages, plan
from cloche.engines.vm.plan import Ground, Seat, Size
from cloche.engines.vm.qmp import ANSWER_SECONDS, Qmp
from cloche.model.errors import EngineError, NoSpaceError, SandboxDeadError

LOAD_SECONDS = 30.0
_FDSET = 9
_PIECE_BYTES = 64 << 10


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


async def save_devices(monitor: Qmp, target: Path) -> int:
    """Everything of the machine but its memory and disks, into a new file; its size. `xen-save-devices-state` is no
    more Xen's than anybody's: it writes what a migration would write of the devices (migration/savevm.c)."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        size = await _through_a_pipe(monitor, descriptor)
    except OSError as error:
        if error.errno in disks.FULL:
            raise NoSpaceError("there is no room for a capture", remedy="free space under CLOCHE_HOME") from error
        raise EngineError(f"the state of the devices cannot be written: {error}", stage="save devices") from error
    finally:
        os.close(descriptor)
    if not size:
        raise EngineError("QEMU wrote no state", stage="save devices")
    return size


async def _through_a_pipe(monitor: Qmp, target: int) -> int:
    """QEMU never has a file that it could fill the disk with, now or after it was removed."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0))
    copying = asyncio.ensure_future(_copied(reader, pipe, target))
    try:
        await _written(monitor, writing)
        async with asyncio.timeout(ANSWER_SECONDS):
            return await copying
    except TimeoutError as error:
        raise EngineError("QEMU does not come to the end of its state", stage="save devices") from error
    except EngineError:
        # what ended the copy is why QEMU could not go on writing
        if copying.done():
            copying.result()
        raise
    finally:
        copying.cancel()
        pipe.close()


async def _written(monitor: Qmp, pipe: int) -> None:
    # it is opened anew, by an id that is nobody's here: what QEMU opens of a set of descriptors it truncates, which no
    # pipe lets it
    os.fchmod(pipe, 0o622)
    try:
        added = await monitor.execute("add-fd", fds=[pipe], fdset_id=_FDSET)
    finally:
        os.close(pipe)
    number = added.get("fd") if isinstance(added, dict) else None
    if not isinstance(number, int):
        raise EngineError("QEMU does not say what it was given", stage="save devices")
    try:
        await monitor.execute("xen-save-devices-state", filename=f"/proc/self/fd/{number}", live=False)
    finally:
        await monitor.execute("remove-fd", fdset_id=_FDSET)


async def _copied(reader: asyncio.StreamReader, pipe: asyncio.ReadTransport, target: int) -> int:
    size = 0
    try:
        while piece := await reader.read(_PIECE_BYTES):
            size += len(piece)
            if size > plan.MAX_DEVICES_BYTES:
                raise EngineError(f"QEMU wrote more than {plan.MAX_DEVICES_BYTES} bytes of state", stage="save devices")
            _write_all(target, piece)
    finally:
        pipe.close()
    return size


def _write_all(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]
