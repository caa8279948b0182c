"""What a VM boots from, below `vm/` in the data directory: kernels and initramfs by their content, and one pointer.

`find` is asked before every start, so it compares sizes and times; `verify` reads everything."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from cloche.engines.vm import durable, initramfs
from cloche.model.errors import EngineError, UnavailableError

DIRECTORY, POINTER, KERNELS, INITRAMFS = "vm", "assets.json", "kernels", "initramfs"
VMLINUX, MODULES, DESCRIPTION = "vmlinux", "modules", "kernel.json"
SETUP = "cloche setup vm"
VERSION = 1
MAX_POINTER_BYTES = 1 << 20


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a kernel is from. `package`, `version`: of a mirror's package; `sha256` of the package or the file."""

    kind: Literal["package", "file"]
    sha256: str
    package: str | None = None
    version: str | None = None
    path: str | None = None


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """kernel.json: everything that makes a kernel this one. `files`: path in its directory → SHA-256;
    `modules`: names in the order in which they load; `redirects`: it can make connections to any address arrive at the
    guest, None when nobody has looked; `refusals`: so it is with telling of the packets that are refused there."""

    release: str
    architecture: str
    modules: list[str]
    files: dict[str, str]
    source: Source
    redirects: bool | None = None
    refusals: bool | None = None


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was when its content was known."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        found = os.stat(path)
        return cls(size=found.st_size, mtime_ns=found.st_mtime_ns)


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """assets.json. `stamps`: path below `vm/` → what the file was; `guest`: the binary in the initramfs."""

    version: int
    kernel_id: str
    release: str
    architecture: str
    modules: list[str]
    stamps: dict[str, Stamp]
    initramfs_id: str | None = None
    guest_sha256: str | None = None
    guest: Stamp | None = None
    redirects: bool | None = None
    refusals: bool | None = None


class Assets(msgspec.Struct, frozen=True, kw_only=True):
    """Ready to boot. The ids are SHA-256: of kernel.json, which has that of each file, and of the initramfs."""

    kernel: Path
    initramfs: Path
    kernel_id: str
    initramfs_id: str
    release: str
    architecture: str
    redirects: bool | None
    refusals: bool | None


def find(home: Path) -> Assets | None:
    """What there is, without reading any of it; None when something is missing or has been changed."""
    pointer = read_pointer(home)
    if pointer is None or pointer.initramfs_id is None or not _as_stamped(home, pointer):
        return None
    return _assets(home, pointer)


def current(home: Path, guest_binary: Path) -> Assets:
    """The assets whose initramfs has this guest; it is built (tens of milliseconds) when only that is missing.

    Raises UnavailableError (no kernel: `cloche setup vm`), EngineError, OSError."""
    pointer = read_pointer(home)
    if pointer is None or not _as_stamped(home, pointer, kernel_only=True):
        raise UnavailableError("the kernel for virtual machines is not here yet", remedy=SETUP, engine="vm")
    if pointer.guest == _stamp(guest_binary) and _as_stamped(home, pointer):
        return _assets(home, pointer)
    with pointing(home):
        return _assets(home, with_guest(home, read_pointer(home) or pointer, guest_binary))


def with_guest(home: Path, pointer: Pointer, guest_binary: Path) -> Pointer:
    """Build the initramfs of this kernel and this guest, and point at both. Call it inside `pointing`."""
    stamp = _stamp(guest_binary)
    if stamp is None:
        raise EngineError(f"the guest is missing: {guest_binary}", remedy="reinstall cloche", stage="initramfs")
    guest = guest_binary.read_bytes()
    kernel = kernel_directory(home, pointer.kernel_id)
    content = initramfs.build(guest, [(name, (kernel / MODULES / f"{name}.ko").read_bytes())
                                      for name in pointer.modules])  # fmt: skip
    digest = hashlib.sha256(content).hexdigest()
    path = initramfs_path(home, digest)
    if _digest(path) != digest:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write(path, content)
    stamps = {**_kernel_stamps(home, pointer), f"{INITRAMFS}/{path.name}": Stamp.of(path)}
    made = msgspec.structs.replace(
        pointer, stamps=stamps, initramfs_id=digest, guest=stamp, guest_sha256=hashlib.sha256(guest).hexdigest()
    )
    write_pointer(home, made)
    return made


def pointer_to(home: Path, kernel_id: str, description: Description) -> Pointer:
    """At a kernel that is there, without an initramfs yet."""
    pointer = Pointer(version=VERSION, kernel_id=kernel_id, release=description.release,
                      architecture=description.architecture, modules=description.modules, stamps={},
                      redirects=description.redirects, refusals=description.refusals)  # fmt: skip
    directory = kernel_directory(home, kernel_id)
    stamps = {f"{KERNELS}/{kernel_id}/{name}": Stamp.of(directory / name) for name in description.files}
    return msgspec.structs.replace(pointer, stamps=stamps)


def verify(home: Path) -> list[str]:
    """Read everything that the pointer names → what is wrong, one line each; [] when all is well."""
    pointer = read_pointer(home)
    if pointer is None:
        return ["there is no kernel"]
    kernel = kernel_directory(home, pointer.kernel_id)
    description = read_description(kernel, pointer.kernel_id)
    if description is None:
        return [f"{DESCRIPTION} of kernel {pointer.release} is missing or was changed"]
    wrong = [name for name, digest in description.files.items() if _digest(kernel / name) != digest]
    if pointer.initramfs_id and _digest(initramfs_path(home, pointer.initramfs_id)) != pointer.initramfs_id:
        wrong.append("the initramfs")
    return [f"{name} is missing or was changed" for name in wrong]


def read_pointer(home: Path) -> Pointer | None:
    """None: there is none that can be read."""
    try:
        with open(home / DIRECTORY / POINTER, "rb") as file:
            pointer = msgspec.json.decode(file.read(MAX_POINTER_BYTES), type=Pointer)
    except (OSError, ValueError):
        return None
    ids = [pointer.kernel_id, pointer.initramfs_id or pointer.kernel_id]
    return pointer if pointer.version == VERSION and all(map(_is_id, ids)) else None


def write_pointer(home: Path, pointer: Pointer) -> None:
    durable.write(home / DIRECTORY / POINTER, msgspec.json.format(msgspec.json.encode(pointer), indent=1) + b"\n")


def read_description(directory: Path, kernel_id: str) -> Description | None:
    """kernel.json, if it is the one that gave the directory its name."""
    try:
        content = (directory / DESCRIPTION).read_bytes()
        if hashlib.sha256(content).hexdigest() != kernel_id:
            return None
        return msgspec.json.decode(content, type=Description)
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def pointing(home: Path) -> Iterator[None]:
    """Whoever changes the pointer does it alone; nobody holds this for longer than it takes to build an initramfs."""
    with open(home / DIRECTORY / ".assets.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def kernel_directory(home: Path, kernel_id: str) -> Path:
    return home / DIRECTORY / KERNELS / kernel_id


def initramfs_path(home: Path, initramfs_id: str) -> Path:
    return home / DIRECTORY / INITRAMFS / f"{initramfs_id}.cpio"


def kernel_files(kernel: bytes, modules: Sequence[tuple[str, bytes]]) -> Mapping[str, bytes]:
    """Path in a kernel's directory → content."""
    return {VMLINUX: kernel, **{f"{MODULES}/{name}.ko": content for name, content in modules}}


def _assets(home: Path, pointer: Pointer) -> Assets:
    assert pointer.initramfs_id is not None
    return Assets(
        kernel=kernel_directory(home, pointer.kernel_id) / VMLINUX,
        initramfs=initramfs_path(home, pointer.initramfs_id),
        kernel_id=pointer.kernel_id,
        initramfs_id=pointer.initramfs_id,
        release=pointer.release,
        architecture=pointer.architecture,
        redirects=pointer.redirects,
        refusals=pointer.refusals,
    )


def _kernel_stamps(home: Path, pointer: Pointer) -> dict[str, Stamp]:
    return {name: stamp for name, stamp in pointer.stamps.items() if name.startswith(f"{KERNELS}/{pointer.kernel_id}/")}


def kernel_as_stamped(home: Path, pointer: Pointer) -> bool:
    return _as_stamped(home, pointer, kernel_only=True)


def restamped(home: Path, pointer: Pointer) -> Pointer | None:
    """The pointer with the times that its files have now, after reading them: as after a copy from elsewhere. None:
    the kernel is not what it was. An initramfs that is not is taken away, to be built again."""
    kernel = kernel_directory(home, pointer.kernel_id)
    description = read_description(kernel, pointer.kernel_id)
    if description is None or any(_digest(kernel / name) != digest for name, digest in description.files.items()):
        return None
    if pointer.initramfs_id and _digest(initramfs_path(home, pointer.initramfs_id)) != pointer.initramfs_id:
        initramfs_path(home, pointer.initramfs_id).unlink(missing_ok=True)
    return pointer_to(home, pointer.kernel_id, description)


def _as_stamped(home: Path, pointer: Pointer, *, kernel_only: bool = False) -> bool:
    stamps = _kernel_stamps(home, pointer) if kernel_only else pointer.stamps
    if f"{KERNELS}/{pointer.kernel_id}/{VMLINUX}" not in stamps:
        return False
    if not kernel_only and f"{INITRAMFS}/{pointer.initramfs_id}.cpio" not in stamps:
        return False
    return all(_stamp(home / DIRECTORY / name) == stamp for name, stamp in stamps.items())


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(path)
    except OSError:
        return None


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _is_id(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
