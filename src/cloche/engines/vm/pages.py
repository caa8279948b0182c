"""The pages in which a running machine differs from the file that it was started on, out of its memory and into it.

The launcher does it (guest/internal/pages): it looks for the private mapping of the base file in the process. The
process must be stopped meanwhile."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import Any, Literal

from cloche.model.errors import EngineError, NoSpaceError

BASE_FD, PAGES_FD = 3, 4
MAX_SAID_BYTES = 64 << 10
_DONE = {"save": "saved", "load": "loaded"}


async def save(launcher: Path, pid: int, base: Path, target: Path) -> int:
    """Write the process's own pages of `base` into the new sparse file `target`, and behind them a bit for each page,
    whether it is there; how many. Raises EngineError, NoSpaceError."""
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, base.stat().st_size)
        return await _run(launcher, "save", pid, base, descriptor)
    finally:
        os.close(descriptor)


async def load(launcher: Path, pid: int, base: Path, source: Path) -> int:
    """Put every page of the file `source` into the process's own copy of `base`; how many. Raises EngineError."""
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return await _run(launcher, "load", pid, base, descriptor)
    finally:
        os.close(descriptor)


async def _run(launcher: Path, what: Literal["save", "load"], pid: int, base: Path, pages: int) -> int:
    base_fd = os.open(base, os.O_RDONLY | os.O_CLOEXEC)
    try:
        said = await asyncio.to_thread(_call, launcher, what, pid, (base_fd, pages))
    finally:
        os.close(base_fd)
    if said.get("ok"):
        return int(said["pages"])
    failure: dict[str, Any] = said.get("failure") or {}
    text = f"the memory of the machine cannot be {_DONE[what]}: {failure.get('message', 'no reason given')}"
    if failure.get("errno") in (28, 122):  # ENOSPC, EDQUOT
        raise NoSpaceError(text, remedy="free space under CLOCHE_HOME")
    raise EngineError(text, stage=f"{what} pages")


def _call(launcher: Path, what: str, pid: int, files: tuple[int, int]) -> dict[str, Any]:
    """Blocks. The launcher knows its files by their numbers; above those, none of them is in another's place."""
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16) for fd in files]
    reading, writing = os.pipe2(os.O_CLOEXEC)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, writing, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, moved[0], BASE_FD),
        (os.POSIX_SPAWN_DUP2, moved[1], PAGES_FD),
    ]  # fmt: skip
    try:
        started = os.posix_spawn(launcher, [str(launcher), "pages", what, "--pid", str(pid)], {}, file_actions=actions)
        os.close(writing)
        writing = -1
        with open(reading, "rb", closefd=False) as pipe:
            said = pipe.read(MAX_SAID_BYTES)
        os.waitpid(started, 0)
        return dict(json.loads(said))
    except (OSError, ValueError) as error:
        return {"failure": {"message": str(error)}}
    finally:
        for fd in (*moved, reading, writing):
            if fd >= 0:
                os.close(fd)
