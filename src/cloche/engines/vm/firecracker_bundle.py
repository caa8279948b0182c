"""The Firecracker that is installed, copied to where its boxes see it: an update of it must not change what machines
that wait or were captured are restored by."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from cloche.engines.vm import durable, elf
from cloche.engines.vm.bundle import Bundle
from cloche.engines.vm.damaged import DamagedError
from cloche.engines.vm.firecracker_api import MINIMUM_VERSION
from cloche.model.errors import EngineError, UnavailableError

PROGRAM, VARIABLE = "firecracker", "CLOCHE_FIRECRACKER"
REMEDY = "put the `firecracker` of a release, 1.8 or newer, on PATH, or use QEMU (CLOCHE_VMM=qemu)"
MAX_PROGRAM_BYTES = 256 << 20
_VERSION = re.compile(r"^Firecracker v(\d{1,4})\.(\d{1,4})\.(\d{1,4})", re.MULTILINE)
Stamp = tuple[str, int, int, int]
_made: dict[tuple[Path, Stamp], Bundle] = {}


def find_program() -> Path | None:
    """CLOCHE_FIRECRACKER, or what PATH has."""
    named = os.environ.get(VARIABLE) or shutil.which(PROGRAM)
    return Path(named).resolve() if named and os.path.exists(named) else None


async def bundle(home: Path) -> Bundle:
    """Raises UnavailableError when there is none, it is too old or needs libraries, EngineError."""
    program = find_program()
    if program is None:
        raise UnavailableError(f"{PROGRAM} is not installed", remedy=REMEDY)
    return await asyncio.to_thread(_bundle, home / "vm" / PROGRAM, program)


def _bundle(parent: Path, program: Path) -> Bundle:
    key = (parent, _stamp(program))
    found = _made.get(key)
    if found is None or not Path(found.path, PROGRAM).exists():
        found = _made[key] = _copied(parent, program)
    return found


def _stamp(program: Path) -> Stamp:
    found = program.stat()
    return str(program), found.st_ino, found.st_size, found.st_mtime_ns


def _copied(parent: Path, program: Path) -> Bundle:
    try:
        with open(program, "rb") as file:
            content = file.read(MAX_PROGRAM_BYTES)
        _check_static(content)
        version = parse_version(_said(program))
        digest = hashlib.sha256(content).hexdigest()[:32]
        target = parent / digest
        target.mkdir(0o755, parents=True, exist_ok=True)
        if not (target / PROGRAM).exists():
            durable.write(target / PROGRAM, content)
        # executed by an id that nobody has
        (target / PROGRAM).chmod(0o555)
    except OSError as error:
        raise EngineError(f"{program} cannot be copied: {error}", stage="bundle Firecracker") from error
    return Bundle(path=str(target), key=digest, version=version, loader="", vmm="firecracker")


def _check_static(program: bytes) -> None:
    """Its box has nothing but this file. Releases are static."""
    try:
        loader = elf.section(program, b".interp")
    except DamagedError as error:
        raise UnavailableError(f"what is installed as {PROGRAM} is no program: {error}", remedy=REMEDY) from error
    if loader:
        raise UnavailableError("this Firecracker needs libraries, and its box has none", remedy=REMEDY)


def parse_version(said: str) -> tuple[int, int, int]:
    """Of `firecracker --version`. Raises EngineError, UnavailableError."""
    found = _VERSION.search(said)
    if found is None:
        raise EngineError("Firecracker does not tell its version", stage="bundle Firecracker")
    version = int(found[1]), int(found[2]), int(found[3])
    if version[:2] < MINIMUM_VERSION:
        raise UnavailableError(f"Firecracker {'.'.join(map(str, version))} is too old", remedy=REMEDY)
    return version


def _said(program: Path) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"{program} cannot be run: {error}", stage="bundle Firecracker") from error
    return done.stdout
