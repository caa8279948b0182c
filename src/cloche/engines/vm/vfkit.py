"""Apple's Virtualization framework as a VMM of the vm engine, through vfkit: macOS, on Apple's and Intel's processors.

As doc/usage.md of vfkit (0.6) has it: everything is in the arguments, which it parses as lists with commas, and its
REST service on a unix socket knows the machine's state and changes it. It cannot save a machine, limit a drive or open
one read-only: the root is a copy of its own (a clone of the file system, as `cp -c` makes one). It was never run by
Cloche's own tests, only against a parser and a server that are as strict as it is."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Literal

from cloche.channel.unix import UnixChannel
from cloche.engines.vm import local_api
from cloche.engines.vm.machine import GUEST_VSOCK_PORT, Machine, VmmName
from cloche.engines.vm.vmm import Abilities, Captured, Launch, Seating, Vmm
from cloche.model.errors import EngineError, InvalidError, SandboxDeadError, UnavailableError

START_SECONDS = 10.0
API_SOCKET, CHANNEL_SOCKET, CONSOLE = "vfkit.sock", "channel.sock", "console.log"
#: sun_path of macOS without its terminating NUL: vfkit gets whole paths, and cannot be told where to start
MAX_SOCKET_PATH_BYTES = 103
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 0.1
#: letters that vfkit's lists and quotes keep as they are
_PLAIN = re.compile(r'[^",\x00-\x1f\x7f]+')

Change = Literal["Pause", "Resume", "Stop", "HardStop"]
_STATES = frozenset({"Stopped", "Running", "Paused", "Error", "Starting", "Pausing", "Resuming", "Stopping"})


def installed() -> Vmm | None:
    """The vfkit on PATH of a Mac; None elsewhere, or when there is none."""
    binary = shutil.which("vfkit") if sys.platform == "darwin" else None
    return Vfkit(binary) if binary else None


class Vfkit:
    name: VmmName = "vfkit"
    abilities = Abilities(accelerators=("hvf",), read_only_drives=False)

    def __init__(self, binary: str) -> None:
        self._binary = binary

    def launch(self, machine: Machine, seating: Seating, *, incoming: bool) -> Launch:
        """Raises UnavailableError, InvalidError for a path that vfkit would read as something else."""
        if incoming:
            raise _no_captures()
        if machine.accelerator != "hvf":
            raise UnavailableError("vfkit works with macOS's hypervisor only", remedy="use QEMU")
        self._check_drives(machine)
        argv = [self._binary, "--cpus", str(machine.vcpus), "--memory", str(machine.memory_mib)]
        argv += ["--bootloader", _bootloader(machine), "--restful-uri", f"unix://{_socket(seating, API_SOCKET)}"]
        for device in _devices(machine, seating):
            argv += ["--device", device]
        return Launch(argv=argv, directory=seating.run_dir)

    async def seat(self, machine: Machine, seating: Seating) -> None:
        """Nothing: it opens the files where they are."""

    async def boot(self, machine: Machine, seating: Seating) -> None:
        """It boots by itself: return when it says that it runs."""
        deadline, pause = time.monotonic() + START_SECONDS, _FIRST_PAUSE_SECONDS
        while True:
            found = await self._state_or_none(seating)
            if found == "Running":
                return
            if found in ("Error", "Stopped") or time.monotonic() > deadline:
                raise EngineError(f"vfkit did not start the machine: {found or 'no answer'}", stage="boot")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def restore(self, machine: Machine, seating: Seating, captured: Captured, *, resume: bool) -> None:
        raise _no_captures()

    async def pause(self, seating: Seating) -> None:
        """What is paused stays so."""
        if await self.state(seating) != "Paused":
            await self._change(seating, "Pause")

    async def resume(self, seating: Seating) -> None:
        if await self.state(seating) != "Running":
            await self._change(seating, "Resume")

    async def stop(self, seating: Seating) -> None:
        """Pull the plug."""
        await self._change(seating, "HardStop")

    async def capture(self, seating: Seating, captured: Captured, *, partial: bool = False) -> None:
        raise _no_captures()

    def channel(self, seating: Seating) -> UnixChannel:
        """Every connection to the socket is one to the port on which the guest listens."""
        return UnixChannel(Path(seating.run_dir) / CHANNEL_SOCKET)

    async def unseat(self, seating: Seating) -> None:
        """Nothing: all that it made is in `run_dir`."""

    async def state(self, seating: Seating) -> str:
        """One word: "Running", "Paused", "Stopped" …. Raises SandboxDeadError, EngineError."""
        status, answer = await local_api.call(Path(seating.run_dir) / API_SOCKET, "GET", "/vm/state")
        found = _state(answer)
        if status != 200 or found is None:
            raise EngineError("vfkit does not tell the machine's state", stage="vmm_api")
        return found

    async def _state_or_none(self, seating: Seating) -> str | None:
        try:
            return await self.state(seating)
        except SandboxDeadError:
            return None

    async def _change(self, seating: Seating, change: Change) -> None:
        socket = Path(seating.run_dir) / API_SOCKET
        status, answer = await local_api.call(socket, "POST", "/vm/state", {"state": change})
        if status not in (200, 202):
            said = local_api.reason(answer, "error")
            raise EngineError(f"vfkit refused to {change}: {said}", stage="vmm_api")

    def _check_drives(self, machine: Machine) -> None:
        if any(drive.bytes_per_second or drive.operations_per_second for drive in machine.drives):
            raise UnavailableError("vfkit cannot limit the rate of a drive", remedy="leave the limit out, or use QEMU")


def _bootloader(machine: Machine) -> str:
    """The command line in the quotes that keep its commas together."""
    if '"' in machine.command_line:
        raise InvalidError("vfkit cannot be given quotes in a kernel command line", field="command_line")
    kernel, initramfs = _plain(machine.kernel), _plain(machine.initramfs)
    return f'linux,kernel={kernel},initrd={initramfs},cmdline="{machine.command_line}"'


def _devices(machine: Machine, seating: Seating) -> list[str]:
    disks = [f"virtio-blk,path={_plain(drive.path)},deviceId={drive.id}" for drive in machine.drives]
    channel = f"virtio-vsock,port={GUEST_VSOCK_PORT},socketURL={_socket(seating, CHANNEL_SOCKET)},connect"
    console = f"virtio-serial,logFilePath={_plain(str(Path(seating.run_dir) / CONSOLE))}"
    return [*disks, channel, console, "virtio-rng"]


def _socket(seating: Seating, name: str) -> str:
    path = _plain(str(Path(seating.run_dir) / name))
    if len(path.encode()) > MAX_SOCKET_PATH_BYTES:
        raise UnavailableError(
            f"the path of a socket is too long for macOS: {path}", remedy="set CLOCHE_HOME to a shorter path"
        )
    return path


def _plain(path: str) -> str:
    """vfkit has no way to write a comma or a quote."""
    if not _PLAIN.fullmatch(path) or not path.startswith("/"):
        raise InvalidError(f"vfkit cannot be given the path {path!r}", field="path")
    return path


def _state(answer: Any) -> str | None:
    """Go's name of the state, "VirtualMachineStateRunning", and what newer releases may make of it."""
    said = answer.get("state") if isinstance(answer, dict) else None
    word = said.removeprefix("VirtualMachineState") if isinstance(said, str) else None
    return word if word in _STATES else None


def _no_captures() -> UnavailableError:
    return UnavailableError("vfkit cannot save a machine", remedy="use QEMU or Firecracker, which can")
