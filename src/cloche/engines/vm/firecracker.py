"""Firecracker as a VMM of the engine, in the same box that QEMU has (docs/decisions/0016). It was never run on hardware
by Cloche's own tests, only in the shape of a server that enforces its published API."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from cloche.channel.vsock import VsockChannel
from cloche.engines.launched import supervisor
from cloche.engines.launched.facts import Facts
from cloche.engines.vm import disks, firecracker_plan, monitor, vmms
from cloche.engines.vm.firecracker_api import FirecrackerApi
from cloche.engines.vm.firecracker_plan import API_SOCKET, DIRECTORY, NEW_MEMORY, NEW_STATE, STATE, VSOCK_SOCKET
from cloche.engines.vm.machine import GUEST_VSOCK_PORT
from cloche.engines.vm.plan import MEMORY_INSIDE, Ground, Seat
from cloche.images import sparse
from cloche.model.errors import EngineError, NoSpaceError, SandboxDeadError, UnavailableError

START_SECONDS = 10.0
#: of the devices; what is larger is no state
MAX_STATE_BYTES = 64 << 20
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 0.05
_STATES = {"Running": "running", "Paused": "paused"}
_KVM = os.makedev(10, 232)


class AskedFirecracker:
    def __init__(self, run_dir: Path) -> None:
        self._directory = run_dir / DIRECTORY
        self._api = FirecrackerApi(self._directory / API_SOCKET)

    async def status(self) -> str:
        state = await self._api.state()
        return _STATES.get(state, state)

    async def stop(self) -> None:
        await self._api.pause()

    async def go_on(self) -> None:
        await self._api.resume()

    async def save_devices(self, target: Path) -> None:
        """Firecracker writes the whole capture at once; its memory is fetched by `save_pages`."""
        inside = [f"{firecracker_plan.DIRECTORY_INSIDE}/{name}" for name in (NEW_STATE, NEW_MEMORY)]
        self._forget_capture()
        await self._api.create_snapshot(inside[0], inside[1])
        await asyncio.to_thread(take, self._directory / NEW_STATE, target, MAX_STATE_BYTES)

    async def save_pages(self, facts: Facts, seat: Seat, target: Path) -> None:
        assert seat.memory is not None
        try:
            await asyncio.to_thread(take, self._directory / NEW_MEMORY, target, os.stat(seat.memory).st_size)
        finally:
            self._forget_capture()

    def _forget_capture(self) -> None:
        for name in (NEW_STATE, NEW_MEMORY):
            (self._directory / name).unlink(missing_ok=True)


class Firecracker:
    name: vmms.Name = "firecracker"
    base: Literal["memory", "pages"] = "pages"
    ends_streams = True

    async def launch(
        self, facts: Facts, ground: Ground, seat: Seat, state: dict[str, Any], *, sandbox_id: str, words: str | None,
        deadline: float | None = None, owner: int = 0,
    ) -> None:  # fmt: skip
        """Raises UnavailableError without KVM, or as root where no device can be made."""
        if ground.accelerator != "kvm":
            raise UnavailableError(
                "Firecracker works with KVM only, which does not work here", remedy="CLOCHE_VMM=qemu can emulate"
            )
        await asyncio.to_thread(_seat, facts, seat)
        await supervisor.launch(facts.launcher, firecracker_plan.launcher_plan(
            facts, ground, seat, state, sandbox_id=sandbox_id, boots=words is not None, deadline=deadline, owner=owner,
        ))  # fmt: skip
        if words is not None:
            machine = firecracker_plan.described(ground, monitor.state_size(state), words)
            await _boot(Path(seat.run_dir), firecracker_plan.configuration(machine))

    async def load(self, facts: Facts, seat: Seat, devices: Path, changed: Path | None) -> None:
        """What has changed is in the memory that it was started on already."""
        run_dir = Path(seat.run_dir)
        await asyncio.to_thread(shutil.copyfile, devices, run_dir / DIRECTORY / STATE)
        os.chmod(run_dir / DIRECTORY / STATE, 0o444)
        api = await answering(run_dir)
        state = f"{firecracker_plan.DIRECTORY_INSIDE}/{STATE}"
        await api.load_snapshot(state, MEMORY_INSIDE, resume=True)

    @asynccontextmanager
    async def asked(self, run_dir: Path) -> AsyncIterator[AskedFirecracker]:
        yield AskedFirecracker(run_dir)

    def channel(self, run_dir: Path, answer_seconds: float) -> VsockChannel:
        return VsockChannel(self.channel_path(run_dir), GUEST_VSOCK_PORT, answer_seconds=answer_seconds)

    def channel_path(self, run_dir: Path) -> Path:
        return run_dir / DIRECTORY / VSOCK_SOCKET


async def answering(run_dir: Path) -> FirecrackerApi:
    """It makes its socket some milliseconds after it was started. Raises EngineError with its last words when it has
    ended instead."""
    api, deadline, pause = FirecrackerApi(run_dir / DIRECTORY / API_SOCKET), time.monotonic() + START_SECONDS, 0.0
    while True:
        try:
            await api.check_version()
            return api
        except SandboxDeadError as error:
            ended = supervisor.read_json(run_dir / "exit.json")
            if ended is not None or time.monotonic() > deadline:
                said = str((ended or {}).get("console", "")).strip()[-500:]
                raise EngineError(f"Firecracker did not start: {said or error}", stage="vmm_api") from error
        pause = min(2 * pause or _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(pause)


async def _boot(run_dir: Path, configuration: list[tuple[str, dict[str, Any]]]) -> None:
    api = await answering(run_dir)
    for resource, body in configuration:
        await api.configure(resource, body)
    await api.start()


def _seat(facts: Facts, seat: Seat) -> None:
    """What it opens by name has to be open to its id. All of it lies in directories that nobody else can enter."""
    directory = Path(seat.run_dir, DIRECTORY)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    directory.chmod(0o777)
    Path(seat.disk).chmod(0o666)
    for path in filter(None, (seat.root, seat.memory)):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if not mode & stat.S_IROTH:
            os.chmod(path, mode | 0o444)
    if facts.uid == 0:
        _make_kvm(Path(seat.run_dir, firecracker_plan.KVM_NODE))


def _make_kvm(place: Path) -> None:
    """The host's own is open to root and a group, which its id is not. Raises UnavailableError."""
    place.unlink(missing_ok=True)
    try:
        os.mknod(place, stat.S_IFCHR | 0o600, _KVM)
        place.chmod(0o666)
    except OSError as error:
        raise UnavailableError(
            f"the device that Firecracker needs cannot be made here: {error.strerror}",
            remedy="run Cloche as an ordinary user who may open /dev/kvm, or use QEMU (CLOCHE_VMM=qemu)",
        ) from error


def take(source: Path, target: Path, most: int) -> None:
    """A copy of what Firecracker wrote: it could still write to its own file, and once it was taken over what stands
    there may be anything. Only a regular file of at most so many bytes is taken, never what a link points to."""
    try:
        reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _take(reading, target, most)
        finally:
            os.close(reading)
    except OSError as error:
        kind = NoSpaceError if error.errno in disks.FULL else EngineError
        raise kind(f"the capture could not be kept: {error.strerror}") from error


def _take(reading: int, target: Path, most: int) -> None:
    found = os.fstat(reading)
    if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= most:
        raise EngineError("Firecracker's capture is none", stage="capture")
    writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _copy_sparse(reading, writing, found.st_size)
    finally:
        os.close(writing)


def _copy_sparse(reading: int, writing: int, size: int) -> None:
    """No more than `size`, however the file grows meanwhile."""
    os.ftruncate(writing, size)
    for start, end in sparse.parts(reading, size):
        _copy(reading, writing, start, end)


def _copy(reading: int, writing: int, start: int, end: int) -> None:
    while start < end:
        copied = os.copy_file_range(reading, writing, end - start, start, start)
        if not copied:
            raise EngineError("Firecracker's capture became shorter", stage="capture")
        start += copied
