"""A machine at one moment, as files: what its memory began as, the pages that have changed since, the state of its
devices, and its disk. All of them lie in one directory that whoever captures owns."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec

from cloche.engines.launched.facts import Facts
from cloche.engines.vm import disks, firecracker_plan, plan
from cloche.engines.vm.plan import Ground, Seat, Size
from cloche.engines.vm.vmms import Asked
from cloche.images import sparse
from cloche.model.errors import EngineError, UnavailableError

VERSION = 1
MEMORY, PAGES, DEVICES, DISK = "memory", "pages", "devices", "disk"
FILES = (MEMORY, PAGES, DEVICES, DISK)
WORDS = {"qemu": "QEMU", "kernel": "kernel", "root": "root filesystem", "accelerator": "accelerator",
          "cpu": "processor"}  # fmt: skip


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """`sha256` is of what the file holds with the places where it holds it: holes cost nothing to check. Without it
    only the size is known."""

    bytes: int
    sha256: str = ""


class Requires(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine must have to go on where another was captured."""

    qemu: str
    kernel: str
    root: str
    accelerator: str
    cpu: str


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Of what a machine, and how long it stood still for that."""

    size: Size
    stood_still_seconds: float = 0.0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    version: int = VERSION
    size_bytes: int
    files: dict[str, Sum]
    requires: Requires
    taken: Taken


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """`machine.json` in the run directory: what one machine was started on."""

    seat: Seat
    requires: Requires
    memory: Sum | None

    def write(self) -> None:
        Path(self.seat.run_dir, "machine.json").write_bytes(msgspec.json.encode(self))

    @classmethod
    def read(cls, run_dir: Path) -> Running:
        """Raises EngineError."""
        try:
            return msgspec.json.decode((run_dir / "machine.json").read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError) as error:
            raise EngineError(f"nothing says what the machine was started on: {error}", stage="capture") from error


def requirements(ground: Ground) -> Requires:
    shape = firecracker_plan.shape if ground.bundle.vmm == "firecracker" else plan.shape
    return Requires(
        qemu=f"{ground.bundle.key}-{shape(ground)}",
        kernel=ground.kernel_id, root=ground.root_key, accelerator=ground.accelerator,
        cpu=ground.cpu,
    )  # fmt: skip


async def take(facts: Facts, stopped: Asked, running: Running, directory: Path) -> None:
    """All files of a machine that stands still. Raises EngineError, NoSpaceError."""
    seat = running.seat
    if seat.memory is None:
        raise UnavailableError("QEMU 10 or newer is needed to capture a machine", remedy="cloche setup vm")
    # the same file as the template's: it stays whatever becomes of that one
    os.link(seat.memory, directory / MEMORY)
    await stopped.save_devices(directory / DEVICES)
    await asyncio.gather(
        stopped.save_pages(facts, seat, directory / PAGES),
        asyncio.to_thread(disks.copy_disk, Path(seat.disk), directory / DISK),
    )


async def describe(running: Running, taken: Taken, directory: Path, *, sums: bool = True) -> dict[str, Any]:
    """The manifest, made when the machine goes on already: checksums take longer than the capture."""
    look = summed if sums else _sized
    unknown = FILES if running.memory is None else (PAGES, DEVICES, DISK)
    found = {name: await asyncio.to_thread(look, directory / name) for name in unknown}
    if running.memory is not None:
        found[MEMORY] = running.memory
    held = sum(os.stat(directory / name).st_blocks * 512 for name in (PAGES, DEVICES, DISK))
    manifest = Manifest(size_bytes=held, files=found, requires=running.requires, taken=taken)
    written: dict[str, Any] = msgspec.to_builtins(manifest)
    return written


def read_manifest(manifest: dict[str, Any]) -> Manifest:
    """Raises EngineError, UnavailableError for one of another version."""
    try:
        found = msgspec.convert(manifest, Manifest)
    except msgspec.ValidationError as error:
        raise EngineError(f"the capture's manifest is damaged: {error}", stage="capture") from error
    if found.version != VERSION:
        raise UnavailableError(f"the capture is of version {found.version}, and this Cloche knows {VERSION}")
    return found


def require_same(wanted: Requires, ground: Ground) -> None:
    """Raise UnavailableError naming what differs: a machine's state means something to the very same one only."""
    here = requirements(ground)
    differs = [text for field, text in WORDS.items() if getattr(wanted, field) != getattr(here, field)]
    if differs:
        raise UnavailableError(
            f"it was captured with another {' and another '.join(differs)} than there is here",
            remedy="restore it where it was captured, or make it anew from its template", differs=differs,
        )  # fmt: skip


def require_size(manifest: Manifest, size: Size) -> None:
    """Raise EngineError for what a machine of this size has never been: somebody else may have written the manifest."""
    disk, devices = manifest.files.get(DISK), manifest.files.get(DEVICES)
    if disk is None or disk.bytes != size.disk_mib << 20:
        raise EngineError("the capture's disk is not as large as its sandbox's", stage="capture", file=DISK)
    if devices is None or devices.bytes > plan.MAX_DEVICES_BYTES:
        raise EngineError("the capture's devices are none", stage="capture", file=DEVICES)
    if manifest.taken.size != size:
        raise EngineError("the capture is of a machine of another size", stage="capture")


async def check_files(manifest: Manifest, directory: Path, *, whole: bool) -> None:
    """Raises EngineError naming the file that is missing or damaged; `whole`: read all of them."""
    for name in FILES:
        expected = manifest.files.get(name)
        if expected is None or not await asyncio.to_thread(_is_as, directory / name, expected, whole):
            raise EngineError(f"the capture's {name} is missing or damaged", stage="capture", file=name)


def _is_as(path: Path, expected: Sum, whole: bool) -> bool:
    try:
        if os.lstat(path).st_size != expected.bytes:
            return False
        return not whole or not expected.sha256 or summed(path) == expected
    except OSError:
        return False


def _sized(path: Path) -> Sum:
    return Sum(bytes=os.lstat(path).st_size)


def summed(path: Path) -> Sum:
    """Blocks. Raises OSError."""
    found = sparse.described(path)
    return Sum(bytes=found.size_bytes, sha256=found.sha256)
