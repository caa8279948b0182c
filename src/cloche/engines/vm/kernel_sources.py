"""A kernel with its modules, out of a package or out of files of the user's own, judged before it is kept."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from cloche.engines.vm import deb, kernel, modules
from cloche.engines.vm.damaged import DamagedError
from cloche.model.errors import InvalidError

MAX_LISTED_FILES = 100_000
_VMLINUZ = re.compile(r"(?:boot/vmlinuz-[^/]+|(?:usr/)?lib/modules/[^/]+/vmlinuz)")
_BUILT_IN = re.compile(r"(?:usr/)?lib/modules/[^/]+/modules\.builtin")
_MODULE = re.compile(r"(?:usr/)?lib/modules/[^/]+/kernel/.+")


class Unpacked(NamedTuple):
    """`modules`: (name, content) in the order in which they load; `redirects`: all of modules.REDIRECT is there;
    `refusals`: all of modules.REFUSALS, too."""

    release: str
    kernel: bytes
    modules: list[tuple[str, bytes]]
    redirects: bool
    refusals: bool


def from_package(path: Path, architecture: str) -> Unpacked:
    """Raises DamagedError, OSError."""
    known = modules.USUAL
    for _ in range(modules.MAX_MODULES):
        image, built, found = _read_package(path, known)
        try:
            return _judged(kernel.bootable(image, architecture), built, found, architecture)
        except modules.MissingModulesError as error:
            # a kernel that needs more than usual: read again, with what its modules have named
            if error.names <= known:
                raise
            known |= error.names
    raise DamagedError("its modules need too many others")


def from_files(image: str, directory: str | None, architecture: str) -> Unpacked:
    """`directory`: …/lib/modules/RELEASE; None: everything is built in. Raises InvalidError naming the option."""
    try:
        found = kernel.bootable(_read_file(image, kernel.MAX_KERNEL_BYTES), architecture)
        release = kernel.release(found)
    except (DamagedError, OSError) as error:
        raise InvalidError(f"{image} cannot be booted: {_said(error)}", field="kernel") from error
    if directory is None:
        # nobody says what is built in, and a kernel of its own that can do this is rare
        return Unpacked(release, found, [], redirects=False, refusals=False)
    try:
        built, known = _read_directory(Path(directory))
        return _judged(found, built, known, architecture)
    except (DamagedError, OSError) as error:
        raise InvalidError(f"the modules in {directory} do not fit: {_said(error)}", field="modules") from error


def _judged(found: bytes, built: Collection[str], known: dict[str, bytes], architecture: str) -> Unpacked:
    order = modules.in_order(known, built)
    release = kernel.release(found)
    modules.check_release({name: known[name] for name in order}, release, architecture)
    chosen = [(name, known[name]) for name in order]
    refusals = modules.tells_refusals(order, built)
    return Unpacked(release, found, chosen, modules.redirects(order, built), refusals)


def _read_package(path: Path, names: Collection[str]) -> tuple[bytes, Collection[str], dict[str, bytes]]:
    image, listing, found = b"", "", {}
    with open(path, "rb") as package:
        for name, content in deb.files(package, lambda name: _is_wanted(name, names)):
            if _VMLINUZ.fullmatch(name):
                image = content
            elif _BUILT_IN.fullmatch(name):
                listing = content.decode("utf-8", "replace")
            elif module := modules.name_of(name):
                found[module] = modules.unpacked(content)
    if not image:
        raise DamagedError("the package has no kernel in it")
    return image, modules.built_in(listing), found


def _is_wanted(path: str, names: Collection[str]) -> bool:
    if _MODULE.fullmatch(path):
        return modules.name_of(path) in names
    return bool(_VMLINUZ.fullmatch(path) or _BUILT_IN.fullmatch(path))


def _read_directory(directory: Path) -> tuple[Collection[str], dict[str, bytes]]:
    paths = dict(_module_paths(directory))
    listing = _read_file(str(directory / "modules.builtin"), 1 << 20).decode("utf-8", "replace")
    built = modules.built_in(listing)
    found: dict[str, bytes] = {}
    groups = (*modules.WANTED, *modules.REDIRECT, *modules.REFUSALS, *modules.VSOCK)
    wanted = [name for name in groups if name not in built]
    while wanted and len(found) < modules.MAX_MODULES:
        name = wanted.pop()
        if name in paths and name not in found:
            found[name] = modules.unpacked(_read_file(str(paths[name]), modules.MAX_MODULE_BYTES))
            wanted += [need for need in modules.needs(found[name]) if need not in built]
    return built, found


def _module_paths(directory: Path) -> Iterator[tuple[str, Path]]:
    count = 0
    for place, _, names in os.walk(directory / "kernel"):
        for name in names:
            count += 1
            if count > MAX_LISTED_FILES:
                raise DamagedError("there are too many files")
            if module := modules.name_of(name):
                yield module, Path(place) / name


def _read_file(path: str, limit: int) -> bytes:
    """A regular file: nothing that blocks, and nothing endless."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise DamagedError(f"{path} is no regular file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DamagedError(f"{path} is too large")
    return content


def _said(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
