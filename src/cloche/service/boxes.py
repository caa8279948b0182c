"""From a row to what its engine is told, and the two directories of every sandbox."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from cloche.engines.base import Box, Engine
from cloche.model.errors import ClocheError, EngineError, NoSpaceError
from cloche.model.ids import is_sandbox_id
from cloche.model.sandbox import SandboxRecord
from cloche.service.ports import Engines

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class Boxes:
    """`run/<id>` and `sandboxes/<id>` below the data directory, both 0700."""

    def __init__(self, home: Path, engines: Engines) -> None:
        self._home = home
        self._engines = engines

    def engine(self, record: SandboxRecord) -> Engine:
        return self._engines.get(record.sandbox.engine)

    def box(self, record: SandboxRecord) -> Box:
        sandbox = record.sandbox
        return Box(
            sandbox_id=sandbox.id, spec=sandbox.spec, engine_state=record.engine_state, deadline=sandbox.expires_at,
            run_dir=str(self._run / sandbox.id), state_dir=str(self._state / sandbox.id),
        )  # fmt: skip

    @property
    def _run(self) -> Path:
        return self._home / "run"

    @property
    def _state(self) -> Path:
        return self._home / "sandboxes"

    async def make(self, sandbox_id: str) -> None:
        """Raises NoSpaceError. Directories that are there already are kept."""
        # two small writes: a thread would cost more
        self._make(sandbox_id)

    async def discard(self, sandbox_id: str) -> None:
        """Raises EngineError when something is still mounted below, and then removes nothing."""
        # mostly the engine has taken them away already, and a look costs less than a thread does
        if any(os.path.lexists(parent / sandbox_id) for parent in (self._run, self._state)):
            await asyncio.to_thread(self._discard, sandbox_id)

    async def free_bytes(self) -> int:
        """Of the disk that holds the data directory, for this user."""
        return await asyncio.to_thread(lambda: shutil.disk_usage(self._home).free)

    async def strangers(self, known: frozenset[str]) -> list[str]:
        """Ids of directories that no row knows."""
        return await asyncio.to_thread(self._strangers, known)

    def _make(self, sandbox_id: str) -> None:
        try:
            for parent in (self._run, self._state):
                os.makedirs(parent / sandbox_id, 0o700, exist_ok=True)
        except OSError as error:
            raise failure_of(error, "make") from error

    def _discard(self, sandbox_id: str) -> None:
        for parent in (self._run, self._state):
            remove_tree(parent / sandbox_id)

    def _strangers(self, known: frozenset[str]) -> list[str]:
        parents = [parent for parent in (self._run, self._state) if parent.is_dir()]
        found = {name for parent in parents for name in os.listdir(parent) if is_sandbox_id(name)}
        return sorted(found - known)


def remove_tree(directory: Path) -> None:
    """Raises EngineError when something is mounted below, and then removes nothing."""
    if not os.path.lexists(directory):
        return
    # a mount below could be a directory of the user's: what is inside it is not ours to delete
    if mounted := _mounts_below(str(directory)):
        raise EngineError(f"still mounted: {mounted[0]}", stage="remove directories", remedy=f"umount {mounted[0]}")
    try:
        shutil.rmtree(directory, onerror=_retry_with_rights)
    except FileNotFoundError:
        return
    except OSError as error:
        raise failure_of(error, "remove") from error


def _mounts_below(directory: str) -> list[str]:
    real = os.path.realpath(directory)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            targets = [line.split(" ")[4].replace("\\040", " ") for line in lines]
    except OSError:
        return []
    return [target for target in targets if target == real or target.startswith(real + "/")]


_Failed = tuple[type[BaseException], BaseException, TracebackType]


def _retry_with_rights(remove: Callable[..., Any], path: str, failed: _Failed) -> None:
    """Code in a sandbox may leave directories that not even their owner may enter, and more of them inside."""
    error = failed[1]
    if isinstance(error, FileNotFoundError):
        return
    if not isinstance(error, PermissionError):
        raise error
    if not [locked for locked in (os.path.dirname(path), path) if _unlocked(locked)]:
        raise error
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, onerror=_retry_with_rights)
    else:
        os.unlink(path)


def _unlocked(path: str) -> bool:
    """Whether it was a directory that its owner had no rights to, and has them now."""
    mode = os.lstat(path).st_mode
    if not stat.S_ISDIR(mode) or mode & stat.S_IRWXU == stat.S_IRWXU:
        return False
    os.chmod(path, stat.S_IRWXU)
    return True


def failure_of(error: OSError, what: str) -> ClocheError:
    """NoSpaceError where that is the reason, else EngineError."""
    if error.errno in _NO_ROOM:
        return NoSpaceError("no room for a sandbox's directory", remedy="free some space under CLOCHE_HOME")
    why = f"{error.strerror}: {error.filename}"
    return EngineError(f"cannot {what} a sandbox's directory: {why}", stage=f"{what} directories")
