"""Firecracker as a VMM of the vm engine: in its jailer when Cloche is root, else as it is.

It opens files by name, so `seat` puts every file where it runs: links, because a kernel, a root and a template's memory
are shared by many machines. It was never run on hardware by Cloche's own tests, only against a server that enforces its
published API."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import time
from pathlib import Path

from cloche.channel.vsock import VsockChannel
from cloche.engines.vm import firecracker_api, jailer
from cloche.engines.vm.firecracker_api import FirecrackerApi
from cloche.engines.vm.jailer import API_SOCKET, INITRAMFS, KERNEL, LOG, MEMORY, STATE, VSOCK_SOCKET, Jail, Placement
from cloche.engines.vm.machine import GUEST_VSOCK_PORT, Machine, VmmName
from cloche.engines.vm.vmm import Abilities, Captured, Launch, Seating, Vmm
from cloche.model.errors import EngineError, NoSpaceError, SandboxDeadError, UnavailableError

START_SECONDS = 10.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 0.05
#: what Firecracker writes a capture to, before it is moved to where it belongs
_NEW_STATE, _NEW_MEMORY = "captured.state", "captured.memory"
_FULL = (errno.ENOSPC, errno.EDQUOT)
#: what the process needs beside the machine's memory
MONITOR_MIB = 64


def installed(jails: Path, ids: tuple[int, int] | None) -> Vmm | None:
    """The Firecracker on PATH; None when there is none. Root runs it in the jailer alone, below `jails` and as `ids`
    (uid, gid), which belong to this machine's sandbox and nobody else. Raises UnavailableError when root cannot."""
    binary = shutil.which("firecracker")
    if binary is None or os.geteuid() != 0:
        return Firecracker(binary) if binary else None
    jail = shutil.which("jailer")
    if jail is None or ids is None:
        raise UnavailableError(
            "as root Firecracker runs in its jailer only, which is not there",
            remedy="install the jailer of the same release beside firecracker",
        )
    program, own = os.path.realpath(jail), os.path.realpath(binary)
    return Firecracker(own, Jail(jailer=program, firecracker=own, base=str(jails), uid=ids[0], gid=ids[1]))


class Firecracker:
    """`jail`: None runs `binary` without the jailer. `track_changes`: allow partial captures, for which Firecracker
    watches every page that the guest writes."""

    name: VmmName = "firecracker"

    def __init__(self, binary: str, jail: Jail | None = None, *, track_changes: bool = False) -> None:
        self._binary, self._jail, self._track_changes = binary, jail, track_changes
        self.abilities = Abilities(
            accelerators=("kvm",), captures=True, partial_captures=track_changes, drive_rates=True
        )

    def launch(self, machine: Machine, seating: Seating, *, incoming: bool) -> Launch:
        """Firecracker starts the same way for both. Raises UnavailableError, InvalidError."""
        if machine.accelerator != "kvm":
            raise UnavailableError("Firecracker works with KVM only", remedy="use QEMU, which can also emulate")
        arguments = ["--api-sock", API_SOCKET, "--log-path", LOG, "--level", "Warning"]
        if self._jail is None:
            argv = [self._binary, "--id", jailer.jail_id(seating.sandbox_id), *arguments]
            return Launch(argv=argv, directory=seating.run_dir, console_on_stdout=True)
        argv = jailer.argv(
            self._jail, seating.sandbox_id, arguments, cgroups=self._cgroups(machine), max_file_bytes=None
        )
        return Launch(argv=argv, directory="/", console_on_stdout=True)

    async def seat(self, machine: Machine, seating: Seating) -> None:
        """Raises EngineError, NoSpaceError, UnavailableError when the jail is on another file system."""
        await asyncio.to_thread(self._seat, jailer.placements(machine, boots=True), seating)

    async def boot(self, machine: Machine, seating: Seating) -> None:
        api = await self._answering(seating)
        await api.configure(
            "machine-config", firecracker_api.machine_config(machine, track_changes=self._track_changes)
        )
        await api.configure("boot-source", firecracker_api.boot_source(machine, KERNEL, INITRAMFS))
        for drive in machine.drives:
            await api.configure(f"drives/{drive.id}", firecracker_api.drive(drive, drive.id))
        await api.configure("vsock", firecracker_api.vsock(VSOCK_SOCKET))
        await api.configure("entropy", {})
        await api.start()

    async def restore(self, machine: Machine, seating: Seating, captured: Captured, *, resume: bool) -> None:
        """Raises EngineError for a state that this Firecracker, kernel or processor does not take."""
        files = [Placement(source=captured.state, name=STATE), Placement(source=captured.memory, name=MEMORY)]
        await asyncio.to_thread(self._seat, files, seating)
        api = await self._answering(seating)
        await api.load_snapshot(STATE, MEMORY, resume=resume, track_changes=self._track_changes)

    async def pause(self, seating: Seating) -> None:
        await self._api(seating).pause()

    async def resume(self, seating: Seating) -> None:
        await self._api(seating).resume()

    async def capture(self, seating: Seating, captured: Captured, *, partial: bool = False) -> None:
        """The machine stays paused while the files are copied. Raises NoSpaceError, and
        UnavailableError for a partial one without `track_changes`."""
        if partial and not self._track_changes:
            raise UnavailableError("Firecracker was not told to track what changes")
        new = {_NEW_STATE: captured.state, _NEW_MEMORY: captured.memory}
        try:
            await self._api(seating).create_snapshot(_NEW_STATE, _NEW_MEMORY, partial=partial)
            for name, target in new.items():
                await asyncio.to_thread(_take, self.directory(seating) / name, target)
        except OSError as error:
            kind = NoSpaceError if error.errno in _FULL else EngineError
            raise kind(f"the capture could not be kept: {error.strerror}") from error
        finally:
            for name in new:
                (self.directory(seating) / name).unlink(missing_ok=True)

    def channel(self, seating: Seating) -> VsockChannel:
        return VsockChannel(self.directory(seating) / VSOCK_SOCKET, GUEST_VSOCK_PORT)

    async def unseat(self, seating: Seating) -> None:
        if self._jail is not None:
            await asyncio.to_thread(shutil.rmtree, jailer.home(self._jail, seating.sandbox_id), ignore_errors=True)

    def directory(self, seating: Seating) -> Path:
        """Where Firecracker runs, as the host sees it."""
        return Path(seating.run_dir if self._jail is None else jailer.root(self._jail, seating.sandbox_id))

    def _cgroups(self, machine: Machine) -> dict[str, str]:
        assert self._jail is not None
        most = (machine.memory_mib + MONITOR_MIB) << 20
        if self._jail.cgroup_version == 1:
            return {"memory.limit_in_bytes": str(most)}
        return {"memory.max": str(most), "memory.swap.max": "0"}

    def _api(self, seating: Seating) -> FirecrackerApi:
        return FirecrackerApi(self.directory(seating) / API_SOCKET)

    async def _answering(self, seating: Seating) -> FirecrackerApi:
        """It makes its socket some milliseconds after it was started."""
        api, deadline, pause = self._api(seating), time.monotonic() + START_SECONDS, _FIRST_PAUSE_SECONDS
        while True:
            try:
                await api.check_version()
                return api
            except SandboxDeadError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _seat(self, files: list[Placement], seating: Seating) -> None:
        directory = self.directory(seating)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = directory / LOG
        log.touch(mode=0o600)
        if self._jail is not None:
            os.chown(log, self._jail.uid, self._jail.gid)
        for file in files:
            self._place(file, directory / file.name)

    def _place(self, file: Placement, target: Path) -> None:
        try:
            if self._jail is None:
                target.symlink_to(os.path.abspath(file.source))
                return
            os.link(file.source, target, follow_symlinks=False)
            if file.writable:
                os.chown(target, self._jail.uid, self._jail.gid, follow_symlinks=False)
            elif not target.stat(follow_symlinks=False).st_mode & stat.S_IROTH:
                raise EngineError(f"{file.source} has to be readable for the jail's user", stage="seat")
        except OSError as error:
            raise _cannot_place(file, error) from error


def _cannot_place(file: Placement, error: OSError) -> Exception:
    if error.errno == errno.EXDEV:
        return UnavailableError(
            f"the jail is on another file system than {file.source}", remedy="keep the jails below CLOCHE_HOME"
        )
    kind = NoSpaceError if error.errno in _FULL else EngineError
    return kind(f"cannot put {file.source} into Firecracker's directory: {error.strerror}")


def _take(source: Path, target: str) -> None:
    """A copy of what Firecracker wrote: it could still write to its own file, and once it was taken over what stands
    there may be anything. Only a regular file is taken, never what a link points to."""
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(reading).st_mode):
            raise EngineError("Firecracker's capture is no file", stage="capture")
        # readable for the jail's user: the directory that it goes to is private
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            _copy_sparse(reading, writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_sparse(reading: int, writing: int) -> None:
    size, position = os.fstat(reading).st_size, 0
    os.ftruncate(writing, size)
    while position < size:
        try:
            start = os.lseek(reading, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        position = os.lseek(reading, start, os.SEEK_HOLE)
        while start < position:
            copied = os.copy_file_range(reading, writing, position - start, start, start)
            if not copied:
                raise EngineError("Firecracker's capture became shorter", stage="capture")
            start += copied
