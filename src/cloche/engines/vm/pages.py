"""The pages in which a running machine differs from the file that it was started on, out of its memory and into it.

The launcher does it (guest/internal/pages): it looks for the private mapping of the base file in the process. The
process must be stopped meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Literal

from cloche.model.errors import EngineError, NoSpaceError

SECONDS = 120.0


async def save(launcher: Path, pid: int, base: Path, target: Path) -> int:
    """Write the process's own pages of `base` into the new sparse file `target`; how many. Raises EngineError,
    NoSpaceError."""
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
    text = f"the memory of the machine cannot be {what}d: {failure.get('message', 'no reason given')}"
    if failure.get("errno") in (28, 122):  # ENOSPC, EDQUOT
        raise NoSpaceError(text, remedy="free space under CLOCHE_HOME")
    raise EngineError(text, stage=f"{what} pages")


def _call(launcher: Path, what: str, pid: int, files: tuple[int, int]) -> dict[str, Any]:
    base, pages = files
    numbers = ["--pid", str(pid), "--base", str(base), "--pages", str(pages)]
    try:
        done = subprocess.run(
            [str(launcher), "pages", what, *numbers], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, timeout=SECONDS, check=False, pass_fds=files,
        )  # fmt: skip
        return dict(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"failure": {"message": str(error)}}
