"""QEMU with everything that it loads, in one directory: the only thing of the host that a machine's process sees.

A copy is made once for each QEMU (some 60 MB) and shared by all machines, so one mount takes the place of fifty."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Literal

import msgspec

from cloche.model.errors import ClocheError, EngineError, NoSpaceError, UnavailableError

PROGRAM = "qemu-system-x86_64"
#: where the bundle is seen from inside
INSIDE = "/vmm"
#: qboot starts a kernel in a tenth of SeaBIOS's time; the others are loaded by machines that have them
FIRMWARE = ("qboot.rom", "kvmvapic.bin", "linuxboot_dma.bin", "pvh.bin")
FIRMWARE_PLACES = ("/usr/share/qemu", "/usr/share/seabios", "/usr/local/share/qemu", "/usr/share/qboot")
MODERN = (10, 0)
REMEDY = "cloche setup vm says how to get QEMU 10 or newer here"
#: a node asks from several threads at once when it starts, and one copy is enough
_ONE_AT_A_TIME = threading.Lock()
_VERSION = re.compile(r"version (\d+)\.(\d+)(?:\.(\d+))?")
_LINKED = re.compile(r"^\s*(?:(\S+) => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """`key` changes with every file in it."""

    path: str
    key: str
    version: tuple[int, int, int]
    loader: str
    vmm: Literal["qemu", "firecracker"] = "qemu"

    @property
    def clones(self) -> bool:
        """Whether its machines can be captured and cloned."""
        return self.vmm == "firecracker" or self.version[:2] >= MODERN

    def command(self) -> list[str]:
        """How it is started inside: by its own loader, with its own libraries and firmware."""
        return [
            f"{INSIDE}/lib/{self.loader}", "--library-path", f"{INSIDE}/lib", f"{INSIDE}/bin/{PROGRAM}",
            "-L", f"{INSIDE}/share",
        ]  # fmt: skip


def find_program() -> Path | None:
    """CLOCHE_QEMU, or what PATH has."""
    named = os.environ.get("CLOCHE_QEMU") or shutil.which(PROGRAM)
    return Path(named).resolve() if named and os.path.exists(named) else None


async def bundle(home: Path) -> Bundle:
    """The bundle of the QEMU that is installed now, made if there is none yet. Raises UnavailableError, EngineError."""
    program = find_program()
    if program is None:
        raise UnavailableError(f"{PROGRAM} is not installed", remedy=REMEDY)
    return await asyncio.to_thread(_bundle, home / "vm" / "qemu", program)


def known(home: Path) -> Bundle | None:
    """The bundle that was made last, without looking whether it is still that of the installed QEMU."""
    made = _known(home / "vm" / "qemu")
    return made.bundle if made else None


def _known(parent: Path) -> _Made | None:
    try:
        return msgspec.json.decode((parent / "current.json").read_bytes(), type=_Made)
    except (OSError, msgspec.DecodeError):
        return None


class _Made(msgspec.Struct, frozen=True, kw_only=True):
    bundle: Bundle
    sources: list[str]
    stamp: str


def _bundle(parent: Path, program: Path) -> Bundle:
    with _ONE_AT_A_TIME:
        return _current(parent, program)


def _current(parent: Path, program: Path) -> Bundle:
    made = _known(parent)
    if made and made.sources[0] == str(program) and _is_whole(Path(made.bundle.path), made.bundle.loader):
        with contextlib.suppress(OSError):
            if made.stamp == _stamp(made.sources):
                return made.bundle
    parent.mkdir(0o700, parents=True, exist_ok=True)
    new = _make(parent, program)
    _write(parent / "current.json", msgspec.json.encode(new))
    return new.bundle


def _is_whole(place: Path, loader: str) -> bool:
    """Whether a machine can be started from it; somebody may have tidied up below CLOCHE_HOME."""
    return all((place / name).exists() for name in (f"lib/{loader}", f"bin/{PROGRAM}", "share/qboot.rom"))


def _stamp(sources: list[str]) -> str:
    """Of the program and every library: an update of any of them makes a new bundle, and new templates."""
    found = [os.stat(path) for path in sources]
    text = " ".join(f"{each.st_ino} {each.st_size} {each.st_mtime_ns}" for each in found)
    return hashlib.sha256(text.encode()).hexdigest()


def _make(parent: Path, program: Path) -> _Made:
    version = parse_version(_said([str(program), "--version"]))
    libraries = parse_libraries(_said(["ldd", str(program)]))
    loader = next((name for name in libraries if name.startswith("ld-")), "")
    if not loader:
        raise EngineError(f"{program} is not a dynamically linked program", stage="bundle QEMU")
    files = {f"bin/{PROGRAM}": program, **{f"lib/{name}": place for name, place in libraries.items()}, **_firmware()}
    sources = [str(program), *(str(place) for place in files.values() if place != program)]
    stamp, key = _stamp(sources), hash_of(files)
    target = parent / key
    if not _is_whole(target, loader):
        shutil.rmtree(target, ignore_errors=True)
        _copy_all(files, target)
    made = Bundle(path=str(target), key=key, version=version, loader=loader)
    return _Made(bundle=made, sources=sources, stamp=stamp)


def parse_version(text: str) -> tuple[int, int, int]:
    """Of `qemu-system-x86_64 --version`. Raises EngineError."""
    found = _VERSION.search(text)
    if found is None:
        raise EngineError(f"{PROGRAM} does not tell its version", stage="bundle QEMU")
    return int(found[1]), int(found[2]), int(found[3] or 0)


def parse_libraries(text: str) -> dict[str, Path]:
    """Name → place, of what ldd prints; the loader by the name of its file."""
    return {os.path.basename(name or place): Path(place) for name, place in _LINKED.findall(text)}


def _firmware() -> dict[str, Path]:
    found = {}
    for name in FIRMWARE:
        place = next((Path(p, name) for p in FIRMWARE_PLACES if os.path.exists(f"{p}/{name}")), None)
        if place is not None:
            found[f"share/{name}"] = place
    if "share/qboot.rom" not in found:
        raise UnavailableError("QEMU's qboot.rom is not installed", remedy=REMEDY)
    return found


def hash_of(files: dict[str, Path]) -> str:
    whole = hashlib.sha256()
    for name, place in sorted(files.items()):
        whole.update(f"{name}\0{hashlib.sha256(place.read_bytes()).hexdigest()}\0".encode())
    return whole.hexdigest()[:32]


def _copy_all(files: dict[str, Path], target: Path) -> None:
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        # it is private so far, and QEMU has an id that nobody has
        building.chmod(0o755)
        for name, place in files.items():
            copy = building / name
            copy.parent.mkdir(0o755, parents=True, exist_ok=True)
            shutil.copyfile(place, copy)
            # read and executed by an id that nobody has
            copy.chmod(0o555)
        os.rename(building, target)
    except FileExistsError:
        shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        if not target.exists():
            raise _not_copied(target, error) from error


def _not_copied(target: Path, error: OSError) -> ClocheError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError("no room for a copy of QEMU", remedy=f"df -h {target.parent}")
    return EngineError(f"QEMU cannot be copied to {target}: {error.strerror or error}", stage="bundle QEMU")


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.rename(temporary, path)


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"{os.path.basename(command[0])} cannot be run: {error}", stage="bundle QEMU") from error
    return done.stdout
