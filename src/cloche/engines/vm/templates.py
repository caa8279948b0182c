"""Machines that have booted once, so that others need not: a template is the capture of an idle one, and each sandbox
of its size is a private mapping of that memory. Files of a template are never written again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from cloche.engines.vm import captures
from cloche.engines.vm.captures import DEVICES, DISK, MEMORY, PAGES, Manifest, Sum
from cloche.engines.vm.plan import STATE_VERSION, Ground, Size
from cloche.model.errors import EngineError

#: the least recently used go first; sandboxes and snapshots that were made of them keep what they need
MOST = 8


class Template(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    directory: str
    memory: Sum
    stamps: dict[str, tuple[int, int]]
    """File → size and time of change: a file that was touched makes the template worthless."""

    def path(self, name: str) -> Path:
        return Path(self.directory, name)

    def is_whole(self) -> bool:
        return all(_stamp(self.path(name)) == tuple(stamp) for name, stamp in self.stamps.items())


#: boots a machine and captures it into the directory
Make = Callable[[Path], Awaitable[Manifest]]


class Templates:
    """Of one data directory. Whoever wants one that is being made waits for it."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self._making: dict[str, asyncio.Task[Template]] = {}

    async def get(self, ground: Ground, size: Size, make: Make) -> Template:
        """Raises what `make` raises."""
        key = key_of(ground, size)
        known = self.find(key)
        if known is not None:
            return known
        if key not in self._making:
            self._making[key] = asyncio.ensure_future(self._make(key, make))
            self._making[key].add_done_callback(lambda _: self._making.pop(key, None))
        # one that gives up must not take it from the others
        return await asyncio.shield(self._making[key])

    def find(self, key: str) -> Template | None:
        """One that is whole; what is left of a damaged one is taken away."""
        directory = self.parent / key
        try:
            found = msgspec.json.decode((directory / "template.json").read_bytes(), type=Template)
        except (OSError, msgspec.DecodeError):
            found = None
        if found is not None and found.is_whole():
            os.utime(directory)
            return found
        if directory.exists():
            shutil.rmtree(directory, ignore_errors=True)
        return None

    async def _make(self, key: str, make: Make) -> Template:
        building = self.parent / f".{key}.{os.getpid()}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(0o700, parents=True)
        try:
            manifest = await make(building)
            template = await asyncio.to_thread(self._finish, key, building, manifest)
        finally:
            await asyncio.to_thread(shutil.rmtree, building, True)
        await asyncio.to_thread(self._prune)
        return template

    def _finish(self, key: str, building: Path, manifest: Manifest) -> Template:
        # it was started on nothing, so what has changed is all that there is, and which pages these are does not matter
        os.truncate(building / PAGES, manifest.taken.size.ram_mib << 20)
        os.rename(building / PAGES, building / MEMORY)
        for name in (MEMORY, DEVICES, DISK):
            # read by the id of QEMU, which nobody has; the directory lets nobody else in
            os.chmod(building / name, 0o444)
        stamps = {name: _stamp(building / name) or (0, 0) for name in (MEMORY, DEVICES, DISK)}
        target, memory = self.parent / key, captures.summed(building / MEMORY)
        template = Template(key=key, directory=str(target), memory=memory, stamps=stamps)
        (building / "template.json").write_bytes(msgspec.json.encode(template))
        try:
            os.rename(building, target)
        except OSError as error:
            raise EngineError(f"the template cannot be kept: {error}", stage="template") from error
        return template

    def _prune(self) -> None:
        found = [entry for entry in os.scandir(self.parent) if not entry.name.startswith(".")]
        for entry in sorted(found, key=lambda each: each.stat().st_mtime, reverse=True)[MOST:]:
            shutil.rmtree(entry.path, ignore_errors=True)


def key_of(ground: Ground, size: Size) -> str:
    parts = [STATE_VERSION, captures.VERSION, msgspec.to_builtins(captures.requirements(ground)), ground.initramfs_id]
    return hashlib.sha256(msgspec.json.encode([*parts, size])).hexdigest()[:32]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
