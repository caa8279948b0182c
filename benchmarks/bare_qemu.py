"""The floor: a QEMU on the template's files, started by hand, without box, node or wake."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path


class BareQemu:
    """`home`: a data directory whose newest template is of this image."""

    def __init__(self, home: Path, image: str) -> None:
        from cloche.engines.launched.facts import gather
        from cloche.engines.vm.ground import Grounds

        self._ground = asyncio.run(Grounds(home, gather().guest).of(image))
        self._bundle = self._ground.bundle
        self._template = max((home / "vm" / "templates").iterdir(), key=lambda each: each.stat().st_mtime)

    def once(self) -> float:
        """Seconds from nothing to the first answer of the guest."""
        with tempfile.TemporaryDirectory(prefix="cloche-bare-") as place:
            shutil.copyfile(self._template / "disk", f"{place}/disk")
            began = time.perf_counter()
            process = self._start(Path(place))
            try:
                asyncio.run(_answered(Path(place), self._template / "devices"))
                return time.perf_counter() - began
            finally:
                process.kill()
                process.wait()

    def _start(self, place: Path) -> subprocess.Popen[bytes]:
        from cloche.engines.vm import machine, plan

        size = (self._template / "memory").stat().st_size >> 20
        described = machine.Machine(
            vcpus=1, memory_mib=size, kernel="k", initramfs="i", command_line="",
            accelerator=self._ground.accelerator,
            drives=(machine.Drive(id="root", path="r", read_only=True), machine.Drive(id="disk", path="d")),
        )  # fmt: skip
        sockets = {name: _listening(place / f"{name}.sock") for name in plan.SOCKETS}
        console, _ = socket.socketpair()
        files = {
            "root": os.open(self._ground.root, os.O_RDONLY), "disk": os.open(place / "disk", os.O_RDWR),
            "console": console.fileno(),
        }  # fmt: skip
        numbers = {name: sock.fileno() for name, sock in sockets.items()}
        argv = machine.qemu_argv(
            described, files, incoming=True, memory=str(self._template / "memory"), sockets=numbers
        )
        program = [f"{self._bundle.path}/lib/{self._bundle.loader}", "--library-path", f"{self._bundle.path}/lib"]
        program += [f"{self._bundle.path}/bin/qemu-system-x86_64", "-L", f"{self._bundle.path}/share"]
        given = [*files.values(), *numbers.values()]
        started = subprocess.Popen([*program, *argv[1:]], pass_fds=given, stdin=subprocess.DEVNULL)
        for fd in given:
            os.close(fd) if fd not in (console.fileno(), *numbers.values()) else None
        return started


def _listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(4)
    return sock


async def _answered(place: Path, devices: Path) -> None:
    from cloche.channel.muxed import MuxChannel
    from cloche.engines.vm.qmp import Qmp
    from cloche.guest_api import Guest

    async with await Qmp.connect(place / "qmp.sock") as asked:
        with open(devices, "rb") as state:
            await asked.execute("getfd", fds=[state.fileno()], fdname="state")
        await asked.execute("migrate-incoming", uri="fd:state")
        await asked.event("RESUME", 30)
    channel = MuxChannel(place / "channel.sock")
    guest = Guest(channel)
    await guest.health()
    await guest.close()
    await channel.close()
