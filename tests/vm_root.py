"""A small root filesystem for machines that tests boot, and data directories that share one kernel, QEMU and templates.

The real `host` image is a copy of this machine: gigabytes, and a minute. This one has what the tests call and nothing
else, so that each session boots one template and every test costs a clone of it."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloche.engines.vm.engine import VmEngine
from cloche.images import hostroot
from cloche.images.hostroot import RootImage
from tests.vm_assets import put_vm_assets

CACHE = Path(__file__).parents[1] / ".cache" / "vm-root"
KEPT_SECONDS = 86400.0
#: more in the root: another number
VERSION = 3
#: dash, so that `sh` starts quickly under emulation; what is missing on this machine is missing in the root
PROGRAMS = (
    "sh", "bash", "true", "false", "echo", "cat", "sleep", "env", "pwd", "ls", "mkdir", "rm", "cp", "mv", "ln", "head",
    "tail", "wc", "sort", "tr", "seq", "date", "id", "uname", "stat", "touch", "test", "printf", "od", "dd", "df",
    "sync", "hostname", "mount", "kill", "base64", "sha256sum", "yes", "chmod", "grep", "openssl", "node", "curl",
)  # fmt: skip
MULTIARCH = "/usr/lib/x86_64-linux-gnu"
_LINKED = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
#: but not what Python has compiled: doing that again is slow under emulation
_LEFT_OUT = shutil.ignore_patterns(
    "test", "tests", "idlelib", "turtledemo", "ensurepip", "site-packages", "dist-packages",
    "tkinter", "lib2to3", "config-*", "*.a", "*.pyi",
)  # fmt: skip


@dataclass(frozen=True)
class VmPlace:
    """`directory`: the root, to be named as `image`; `image`: what it becomes; `shared`: a data directory whose parts
    those of the tests stand on; `assets`: a kernel, never to be changed."""

    directory: Path
    image: RootImage
    shared: Path
    assets: Path

    def home(self, place: Path) -> Path:
        """Make `place` a data directory that has everything to boot."""
        place.mkdir(0o700, parents=True, exist_ok=True)
        for name in ("vm", "images"):
            (place / name).symlink_to(self.shared / name)
        return place

    def alone(self, place: Path) -> Path:
        """The same with a kernel and templates of its own, for tests that damage them or make the first."""
        place.mkdir(0o700, parents=True, exist_ok=True)
        put_vm_assets(self.assets, place)
        (place / "images").symlink_to(self.shared / "images")
        return place


@pytest.fixture(scope="session")
def vm_place(vm_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> VmPlace:
    """Skips, with the reason, where machines cannot run."""
    made, image = made_root()
    shared = tmp_path_factory.mktemp("vm")
    put_vm_assets(vm_assets, shared)
    (shared / "images").symlink_to(made.with_name("images"))
    missing = [each for each in asyncio.run(VmEngine(shared).check()) if each.required and each.status != "ok"]
    if missing:
        pytest.skip(f"the vm engine cannot run here: {missing[0].summary}")
    return VmPlace(made, image, shared, vm_assets)


@pytest.fixture
def vm_home(vm_place: VmPlace, tmp_path: Path) -> Path:
    return vm_place.home(tmp_path / "home")


@pytest.fixture
def small_host(vm_place: VmPlace, monkeypatch: pytest.MonkeyPatch) -> VmPlace:
    """In this process image `host` is the small root."""
    monkeypatch.setattr(hostroot, "host_root", always(vm_place.image))
    return vm_place


def always(image: RootImage) -> Callable[..., Awaitable[RootImage]]:
    """In the place of `hostroot.host_root`."""

    async def host_root(home: Path, report: object = None, *, thorough: bool = False) -> RootImage:
        return image

    return host_root


def made_root() -> tuple[Path, RootImage]:
    """The root of this machine's programs as they are now, copied if there is none yet, and its image."""
    place = CACHE / _key()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            _forget_old()
            shutil.rmtree(CACHE / "half", ignore_errors=True)
            _copy_all(CACHE / "half" / "root")
            (CACHE / "half" / "images").mkdir(mode=0o700)
            os.rename(CACHE / "half", place)
        os.utime(place)
        return place / "root", asyncio.run(hostroot.directory_root(place, place / "root"))


def _forget_old() -> None:
    """Others may use theirs now: another Python, another version of these tests."""
    for place in CACHE.iterdir():
        if place.is_dir() and place.stat().st_mtime < time.time() - KEPT_SECONDS:
            shutil.rmtree(place)


def _found() -> dict[str, Path]:
    programs = {name: shutil.which(name) for name in PROGRAMS}
    programs["sh"] = shutil.which("dash") or programs["sh"]
    return {name: Path(place).resolve() for name, place in programs.items() if place}


def _python() -> Path:
    return Path(sys.base_prefix, "bin", f"python{sysconfig.get_python_version()}").resolve()


def _key() -> str:
    places = [_python(), *_found().values(), *_numpy()]
    known = [(str(place), place.stat().st_size, place.stat().st_mtime_ns) for place in places]
    return hashlib.sha256(repr((VERSION, PROGRAMS, known)).encode()).hexdigest()[:16]


def _numpy() -> list[Path]:
    spec = importlib.util.find_spec("numpy")
    if spec is None or spec.origin is None:
        return []
    package = Path(spec.origin).parent
    return [place for place in (package, package.with_name("numpy.libs")) if place.is_dir()]


def _copy_all(root: Path) -> None:
    for name in (
        "usr/bin",
        "usr/lib64",
        MULTIARCH[1:],
        "etc",
        "tmp",
        "root",
        "home",
        "var/tmp",
        "run",
        "proc",
        "sys",
        "dev",
    ):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    # where Debian's OpenSSL looks for authorities, of which there are none
    (root / "usr/lib/ssl").mkdir()
    (root / "usr/lib/ssl/certs").symlink_to("/etc/ssl/certs")
    for name, place in _found().items():
        shutil.copy2(place, root / "usr/bin" / name)
    _copy_python(root / "usr")
    _copy_libraries(root, [path for path in root.rglob("*") if _is_program(path)])


def _copy_python(usr: Path) -> None:
    python = _python()
    shutil.copy2(python, usr / "bin" / python.name)
    (usr / "bin/python3").symlink_to(python.name)
    library = usr / "lib" / python.name
    shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=_LEFT_OUT)
    for package in _numpy():
        # with its tests: it imports some of them
        shutil.copytree(package, library / "site-packages" / package.name)
    # where Debian's python looks
    (usr / "local/lib" / python.name).mkdir(parents=True)
    (usr / "local/lib" / python.name / "dist-packages").symlink_to(f"/usr/lib/{python.name}/site-packages")


def _copy_libraries(root: Path, programs: Iterable[Path]) -> None:
    for library in sorted({place for program in programs for place in _libraries(program)}):
        known = root / MULTIARCH[1:] / Path(library).name
        if "ld-linux" in library:
            known = root / "usr/lib64" / Path(library).name
        if not library.startswith(str(root)) and not known.exists():
            shutil.copy2(Path(library).resolve(), known)


def _libraries(program: Path) -> list[str]:
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True).stdout
    return _LINKED.findall(said)


def _is_program(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
