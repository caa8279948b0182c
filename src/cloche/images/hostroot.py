"""Root file systems for virtual machines: an erofs image of this machine's own root, or of any directory.

Images lie in `HOME/images/erofs/KEY.erofs` (read-only) with `KEY.json` beside each, which says what was left out. The
key is a fingerprint of everything that is in the image (names, sizes, times, modes, links), so an image is never
changed, only followed by another one.

When is an image used again? A full look at the machine takes seconds, too long for each create. So the cheap signs
of `hostparts.signs` (times of directories and of the package database, tens of milliseconds in a thread) are compared
with those of the last build; while they are the same its image is used. They miss a file that was written in place,
and one put deep into a tree: the image is then old, but whole, and `thorough` (set-up asks for it) finds it. Machines
that run keep the image that they have.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloche.images import rootbuild
from cloche.model.errors import EngineError, InvalidError, from_json
from cloche.model.progress import Progress, Report

STEP = "root image"


@dataclass(frozen=True)
class RootImage:
    """`path` is read-only and never changes; `key` says what is in it."""

    path: Path
    key: str
    bytes: int


async def host_root(home: Path, report: Report | None = None, *, thorough: bool = False) -> RootImage:
    """The image of this machine's own programs, built if there is none. Raises NoSpaceError, EngineError, and
    UnavailableError when files never keep still."""
    store = rootbuild.store_of(home)
    if not thorough:
        about = await asyncio.to_thread(rootbuild.current_host, store)
        if about is not None:
            return _image(store, about)
    return await _built(home, ["host"], "copying this machine's programs", report)


async def directory_root(home: Path, directory: Path, report: Report | None = None) -> RootImage:
    """The image of a root that lies in a directory, with the owners that `DIRECTORY.owners.jsonl` gives (see
    images/owners.py). Raises also NotFoundError and InvalidError."""
    if "\0" in str(directory):
        raise InvalidError("a path holds no zero bytes", field="directory")
    return await _built(home, ["directory", str(directory.absolute())], f"copying {directory}", report)


async def prune(home: Path, keep_keys: Collection[str]) -> int:
    """Remove all images but these, and what killed builds left. Returns the bytes that became free. A machine that
    has an image open keeps it."""
    return await asyncio.to_thread(_prune, rootbuild.store_of(home), frozenset(keep_keys))


def _prune(store: Path, keep: frozenset[str]) -> int:
    freed = 0
    with rootbuild.locked(store):
        rootbuild.remove_partial(store)
        for image in store.glob("*.erofs"):
            if image.stem not in keep:
                freed += image.stat().st_blocks * 512
                image.unlink()
        for about in store.glob("*.json"):
            if about.name != rootbuild.LATEST and not about.with_suffix(".erofs").exists():
                about.unlink()
    return freed


def _image(store: Path, about: dict[str, Any]) -> RootImage:
    return RootImage(store / f"{about['key']}.erofs", about["key"], about["bytes"])


async def _built(home: Path, what: list[str], summary: str, report: Report | None) -> RootImage:
    # -P: the working directory may be anybody's, and holds no code of ours
    argv = [sys.executable, "-P", "-m", "cloche.images.rootbuild", str(home), *what]
    builder = await asyncio.create_subprocess_exec(*argv, stdin=DEVNULL, stdout=PIPE)
    try:
        about = await _listen(builder, summary, report)
    finally:
        if builder.returncode is None:
            builder.kill()
        await builder.wait()
    if report is not None and about["left_out_counts"]:
        report(Progress(step=STEP, summary=_left_out(about["left_out_counts"])))
    return _image(rootbuild.store_of(home), about)


async def _listen(builder: Process, summary: str, report: Report | None) -> dict[str, Any]:
    assert builder.stdout is not None
    async for line in builder.stdout:
        said = json.loads(line)
        if "progress" in said and report is not None:
            done, total = said["progress"]
            report(Progress(step=STEP, summary=summary, done=done, total=total, unit="bytes"))
        elif "image" in said:
            await builder.wait()
            return dict(said["image"])
        elif "error" in said:
            await builder.wait()
            raise from_json(said)
    raise EngineError(f"the builder of the root image ended with status {await builder.wait()}", stage=STEP)


def _left_out(counts: dict[str, int]) -> str:
    return "left out: " + ", ".join(f"{why} ({count})" for why, count in sorted(counts.items()))
