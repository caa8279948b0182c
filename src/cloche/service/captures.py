"""Captures of sandboxes: the directories that hold them, and how one is taken of a sandbox that goes on.

Three kinds: `captures/<id>` lives as long as a fork takes, `suspended/<sandbox>` until that is resumed or removed,
`snapshots/<id>` until somebody removes it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cloche.engines.base import Manifest
from cloche.images import sparse
from cloche.model.errors import ClocheError, EngineError, UnavailableError
from cloche.model.sandbox import SandboxRecord
from cloche.model.snapshot import SnapshotFile
from cloche.service.boxes import failure_of, remove_tree
from cloche.service.steps import to_the_end

if TYPE_CHECKING:
    from cloche.service.core import Core

Place = Literal["captures", "suspended", "snapshots"]
Ability = Literal["fork", "memory_snapshot", "suspend"]
MAX_FILES = 64
#: of what an engine or an archive may say
MAX_BYTES = 1 << 50


class CapturePlaces:
    """Below the data directory, all private."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def path(self, place: Place, name: str) -> Path:
        return self._home / place / name

    async def make(self, place: Place, name: str) -> str:
        """A new, empty directory; what was there before is gone. Raises NoSpaceError, EngineError."""
        return await asyncio.to_thread(self._make, place, name)

    async def discard(self, place: Place, name: str) -> None:
        """Safe to call twice. Raises EngineError."""
        if os.path.lexists(self.path(place, name)):
            await asyncio.to_thread(remove_tree, self.path(place, name))

    async def keep(self, place: Place, name: str) -> None:
        """Return when it would outlive a loss of power. Raises NoSpaceError, EngineError."""
        await asyncio.to_thread(self._keep, self.path(place, name))

    async def described(self, place: Place, name: str) -> list[SnapshotFile]:
        """Its files, each read whole. Raises EngineError for what is no plain file, or cannot be read."""
        return await asyncio.to_thread(self._described, self.path(place, name))

    async def used_bytes(self, place: Place, name: str, manifest: Manifest) -> int:
        """What it takes on the disk. An engine knows better where files are shared."""
        told = manifest.get("size_bytes")
        if isinstance(told, int) and 0 <= told < MAX_BYTES:
            return told
        return await asyncio.to_thread(self._used_bytes, self.path(place, name))

    async def names(self, place: Place) -> list[str]:
        """Of all that are there."""
        try:
            return await asyncio.to_thread(lambda: sorted(os.listdir(self._home / place)))
        except FileNotFoundError:
            return []

    def _make(self, place: Place, name: str) -> str:
        directory = self.path(place, name)
        remove_tree(directory)
        try:
            os.makedirs(directory.parent, 0o700, exist_ok=True)
            os.mkdir(directory, 0o700)
        except OSError as error:
            raise failure_of(error, "make") from error
        return str(directory)

    def _keep(self, directory: Path) -> None:
        try:
            for path in [*(directory / name for name in os.listdir(directory)), directory, directory.parent]:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise failure_of(error, "keep") from error

    def _described(self, directory: Path) -> list[SnapshotFile]:
        try:
            names = sorted(os.listdir(directory))
            strange = [name for name in names if not stat.S_ISREG(os.lstat(directory / name).st_mode)]
            if strange or len(names) > MAX_FILES:
                raise EngineError(f"a capture has {strange[:1] or len(names)}, and not a few plain files", stage="read")
            return [sparse.described(directory / name) for name in names]
        except OSError as error:
            raise EngineError(f"the capture cannot be read: {error}", stage="read") from error

    def _used_bytes(self, directory: Path) -> int:
        with contextlib.suppress(OSError):
            return sum(os.lstat(directory / name).st_blocks * 512 for name in os.listdir(directory))
        return 0


async def require_able(core: Core, record: SandboxRecord, ability: Ability) -> None:
    """Raise UnavailableError where the sandbox's engine cannot do this."""
    engine = core.boxes.engine(record)
    if not getattr(await engine.capabilities(), ability):
        raise UnavailableError(
            f"engine {engine.name!r} cannot capture the memory of a sandbox", remedy="--engine vm", engine=engine.name
        )


async def take(
    core: Core, record: SandboxRecord, place: Place, name: str, operation: str, *, lasting: bool
) -> Manifest:
    """Capture a sandbox that goes on as it was. The caller holds its lock. Raises UnavailableError, EngineError,
    NoSpaceError, SandboxDeadError; what is in the directory is then worth nothing."""
    sandbox_id, state = record.sandbox.id, record.sandbox.state
    # a node that dies meanwhile may leave it stopped: the next one lets it go on because of this
    intent = core.intent(sandbox_id, "capture", "marked")
    await core.store.transition(sandbox_id, frozenset({state}), state, intent=intent)
    try:
        await core.reached(f"{operation}.marked")
        directory = await core.captures.make(place, name)
        await core.reached(f"{operation}.directory_made")
        capturing = core.boxes.engine(record).capture(core.boxes.box(record), directory, lasting=lasting)
        manifest = await to_the_end(capturing)
        await core.reached(f"{operation}.captured")
        return manifest
    finally:
        with contextlib.suppress(ClocheError):
            await core.store.transition(sandbox_id, frozenset({state}), state)


async def end_captures(core: Core, record: SandboxRecord) -> None:
    """What a killed node was capturing goes on, unless it was put aside before."""
    engine, box = core.boxes.engine(record), core.boxes.box(record)
    state = record.sandbox.state
    if state == "running" and (await engine.status(box)).status == "paused":
        await engine.resume(box)
    await core.store.transition(record.sandbox.id, frozenset({state}), state)
