"""Firecracker in its jailer: the command line, where its root directory is, what has to be in there. Pure.

As docs/jailer.md of Firecracker 1.16.1 has it: the jailer, started as root, makes `<base>/<binary>/<id>/root`, copies
the binary there, makes that its root and /dev/kvm in it, joins cgroups, becomes `uid:gid` and executes Firecracker. It
inherits no descriptor but the first three, so every file has to be in that directory, by a hard link or a copy. It
removes nothing when it ends."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from cloche.engines.vm.machine import Machine
from cloche.model.errors import InvalidError

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_CGROUP_FILE = re.compile(r"[a-z0-9_]+\.[a-z0-9_.]+")
#: of the directory that Firecracker sees as its root, or starts in
KERNEL, INITRAMFS, STATE, MEMORY = "kernel", "initramfs", "state", "memory"
API_SOCKET, VSOCK_SOCKET, LOG = "api.sock", "vsock.sock", "firecracker.log"
_TAKEN = frozenset({KERNEL, INITRAMFS, STATE, MEMORY, "firecracker"})


class Jail(msgspec.Struct, frozen=True, kw_only=True):
    """`base`: on the file system of everything that is linked into it. `uid`, `gid`: nobody else's, never 0.
    `parent_cgroup`: below it every machine has its own. Raises InvalidError."""

    jailer: str
    firecracker: str
    base: str
    uid: int
    gid: int
    cgroup_version: Literal[1, 2] = 2
    parent_cgroup: str = "cloche"

    def __post_init__(self) -> None:
        if "firecracker" not in posixpath.basename(self.firecracker):
            raise InvalidError("the jailer wants a binary with firecracker in its name", field="firecracker")
        if min(self.uid, self.gid) <= 0:
            raise InvalidError("a jail is no jail for root", field="uid")
        if not all(map(posixpath.isabs, (self.jailer, self.firecracker, self.base))):
            raise InvalidError("the jailer's paths are absolute", field="base")
        if posixpath.isabs(self.parent_cgroup) or ".." in self.parent_cgroup.split("/"):
            raise InvalidError("the parent cgroup is relative to the root of the hierarchy", field="parent_cgroup")


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """A file that has to be in Firecracker's directory as `name`. `writable`: it has to belong to Firecracker's user;
    all others are shared and only have to be readable."""

    source: str
    name: str
    writable: bool = False


def jail_id(sandbox_id: str) -> str:
    """Raises InvalidError for what the jailer would not take."""
    name = sandbox_id.replace("_", "-")
    if not _ID.fullmatch(name):
        raise InvalidError(f"no id for a jail: {sandbox_id!r}", field="sandbox_id")
    return name


def root(jail: Jail, sandbox_id: str) -> str:
    """What Firecracker sees as `/`."""
    return os.path.join(home(jail, sandbox_id), "root")


def home(jail: Jail, sandbox_id: str) -> str:
    """All that the jailer leaves behind, but for the cgroup."""
    return os.path.join(jail.base, posixpath.basename(jail.firecracker), jail_id(sandbox_id))


def argv(
    jail: Jail, sandbox_id: str, arguments: list[str], *, cgroups: Mapping[str, str], max_file_bytes: int | None
) -> list[str]:
    """`arguments`: Firecracker's own, without its id, which the jailer adds. `cgroups`: files and what is written to
    them ("memory.max"). `max_file_bytes`: the largest file it may make or lengthen; a capture of the memory has to fit.
    Without --new-pid-ns, which would leave whoever started it with nothing to wait for. Raises InvalidError."""
    words = [jail.jailer, "--id", jail_id(sandbox_id), "--exec-file", jail.firecracker]
    words += ["--uid", str(jail.uid), "--gid", str(jail.gid), "--chroot-base-dir", jail.base]
    words += ["--cgroup-version", str(jail.cgroup_version)]
    if cgroups:
        words += ["--parent-cgroup", jail.parent_cgroup]
    for file, value in sorted(cgroups.items()):
        if not _CGROUP_FILE.fullmatch(file) or not value.isprintable():
            raise InvalidError(f"no setting of a cgroup: {file!r}", field="cgroups")
        words += ["--cgroup", f"{file}={value}"]
    if max_file_bytes is not None:
        words += ["--resource-limit", f"fsize={max_file_bytes}"]
    return [*words, "--resource-limit", "no-file=256", "--", *arguments]


def placements(machine: Machine, *, boots: bool) -> list[Placement]:
    """What a machine needs in Firecracker's directory. One that is restored gets state and memory in the place of
    kernel and initramfs, by whoever restores it. Raises InvalidError for a drive whose name is taken."""
    for drive in machine.drives:
        if drive.id in _TAKEN:
            raise InvalidError(f"a drive cannot be called {drive.id!r}", field="drives.id")
    drives = [Placement(source=drive.path, name=drive.id, writable=not drive.read_only) for drive in machine.drives]
    if not boots:
        return drives
    boot = [(machine.kernel, KERNEL), (machine.initramfs, INITRAMFS)]
    return [*(Placement(source=source, name=name) for source, name in boot), *drives]
