"""Puts a kernel where it stays: under the name of its content, whole or not at all; and takes old ones away."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from cloche.engines.vm import assets, durable
from cloche.engines.vm.assets import Description, Pointer, Source
from cloche.engines.vm.kernel_sources import Unpacked

UNFINISHED = "unfinished"
#: what nothing points at any more goes at the next set-up after a day: somebody may just be starting from it
KEPT_SECONDS = 86400.0


def keep(home: Path, unpacked: Unpacked, source: Source, architecture: str, reached: Callable[[str], None]) -> Pointer:
    """Write the kernel and point at it. `reached` is told of each step. Raises OSError."""
    files = assets.kernel_files(unpacked.kernel, unpacked.modules)
    description = Description(
        release=unpacked.release, architecture=architecture, source=source,
        modules=[name for name, _ in unpacked.modules], redirects=unpacked.redirects,
        refusals=unpacked.refusals,
        files={name: assets.sha256(content) for name, content in files.items()},
    )  # fmt: skip
    content = msgspec.json.format(msgspec.json.encode(description), indent=1)
    kernel_id = assets.sha256(content)
    made = _written(home, {**files, assets.DESCRIPTION: content})
    reached("written")
    _put(made, assets.kernel_directory(home, kernel_id))
    reached("kept")
    with assets.pointing(home):
        pointer = assets.pointer_to(home, kernel_id, description)
        assets.write_pointer(home, pointer)
    return pointer


def tidy(home: Path) -> None:
    """Remove what a set-up that was killed left half-made, and what nothing has pointed at for a day."""
    place = home / assets.DIRECTORY
    shutil.rmtree(place / UNFINISHED, ignore_errors=True)
    pointer = assets.read_pointer(home)
    named = {pointer.kernel_id, f"{pointer.initramfs_id}.cpio"} if pointer else set()
    for kind in (assets.KERNELS, assets.INITRAMFS):
        for path in (place / kind).glob("*"):
            if path.name not in named and time.time() - path.stat().st_mtime > KEPT_SECONDS:
                _remove(path)


def _written(home: Path, files: Mapping[str, bytes]) -> Path:
    unfinished = home / assets.DIRECTORY / UNFINISHED
    unfinished.mkdir(mode=0o700, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=unfinished))
    for name, content in files.items():
        (made / name).parent.mkdir(mode=0o700, exist_ok=True)
        durable.write_new(made / name, content)
    durable.sync_directory(made)
    return made


def _put(made: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    if target.exists():
        # there, but perhaps not as it should be: nothing else writes it again
        os.rename(target, made.with_name(f"{made.name}.old"))
    os.rename(made, target)
    durable.sync_directory(target.parent)
    shutil.rmtree(made.with_name(f"{made.name}.old"), ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
