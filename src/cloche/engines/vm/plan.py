"""What the launcher is told to put a virtual machine monitor into its box: an almost empty root, no network, an id that
nobody has, and everything it works with as descriptors or single read-only files. Pure."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import msgspec

from cloche.engines.base import Box
from cloche.engines.launched import cgroups, ids
from cloche.engines.launched.facts import Facts
from cloche.engines.vm import machine
from cloche.engines.vm.bundle import INSIDE, Bundle
from cloche.images.host import Bind, Entry
from cloche.model.errors import InvalidError, UnavailableError
from cloche.model.limits import ResolvedLimits
from cloche.model.sandbox import SandboxSpec

STATE_VERSION = 1
#: in the state directory of a sandbox
DISK_FILE = "disk.img"
#: of the machine's memory, beside what the sandbox may use: its kernel and its guest
KERNEL_MIB = 64
#: of the host's memory, beside the machine's: QEMU itself, and the code that emulation has translated
MONITOR_MIB = 160
MONITOR_PIDS = 64
#: the state of the devices is some 10 KB; what is larger than this is not one
MAX_DEVICES_BYTES = 64 << 20
#: files of the host that the monitor opens by name, because it has no other way
MEMORY_INSIDE, KERNEL_INSIDE, INITRAMFS_INSIDE = "/machine/memory", "/machine/kernel", "/machine/initramfs"
CONSOLE_FD = 30
_DIRECTORIES = ("/proc", "/sys", "/dev", "/tmp", "/run", "/etc", "/machine", INSIDE)  # noqa: S108
FILES = {"root": 10, "disk": 11, "kvm": 12, "console": CONSOLE_FD}
SOCKETS = {"qmp": 20, "channel": 21}


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine has. A template fits only sandboxes of its size."""

    ram_mib: int
    vcpus: int
    disk_mib: int


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What machines stand on here; all of it goes into the key of a template."""

    bundle: Bundle
    kernel: str
    kernel_id: str
    initramfs: str
    initramfs_id: str
    root: str
    root_key: str
    accelerator: machine.Accelerator
    cpu: str


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one machine. `memory` is what its RAM begins as, and is never written."""

    run_dir: str
    root: str
    disk: str
    memory: str | None


def engine_state(facts: Facts, tag: str, sandbox_id: str, spec: SandboxSpec) -> dict[str, Any]:
    """What is written to the store before anything is made. Raises InvalidError, UnavailableError."""
    limits = spec.limits.resolved()
    check_spec(spec)
    groups = cgroups.groups(facts.cgroups, tag, sandbox_id, monitor_limits(limits), 0) if facts.cgroups else {}
    return {"version": STATE_VERSION, "ids": monitor_ids(facts), "size": msgspec.to_builtins(size(limits)), **groups}


def of_nobody(spec: SandboxSpec) -> SandboxSpec:
    """Of a machine that waits for somebody: what whoever came before has called his must be in none of its memory."""
    return SandboxSpec(image=spec.image, limits=spec.limits)


def nobodys_box(like: Box, place: Path) -> Box:
    """A box of the same machine that is nobody's yet and lives in `place`. Without cgroups: those are its sandbox's,
    and it enters them before it runs anything of that."""
    kept = {key: value for key, value in like.engine_state.items() if key in ("version", "vmm", "ids", "size")}
    return Box(
        sandbox_id=place.name, spec=of_nobody(like.spec), run_dir=str(place), state_dir=str(place), engine_state=kept
    )


def check_spec(spec: SandboxSpec) -> None:
    if spec.isolation not in (None, "vm"):
        raise UnavailableError(f"the vm engine cannot give isolation {spec.isolation!r}")
    if spec.image != "host" and not spec.image.startswith("/"):
        raise UnavailableError(f"image {spec.image!r}: only `host` and directories exist so far",
                               remedy="leave --image out, or give the absolute path of a root directory")  # fmt: skip
    if spec.mounts:
        raise UnavailableError(
            "a virtual machine has no way to the host's directories",
            remedy="cloche cp copies files in and out; or --engine namespace",
        )
    if spec.host_paths or spec.hide:
        raise InvalidError(
            "a virtual machine has a copy of the host's /usr, to which nothing is added and in which nothing is hidden",
            field="host_paths", remedy="--engine namespace, or --image DIR with what is wanted",
        )  # fmt: skip


def size(limits: ResolvedLimits) -> Size:
    return Size(ram_mib=limits.memory_mib + KERNEL_MIB, vcpus=max(1, math.ceil(limits.cpus)), disk_mib=limits.disk_mib)


def monitor_limits(limits: ResolvedLimits) -> ResolvedLimits:
    """What the monitor's process may use on the host. The sandbox's own limits hold inside."""
    memory = limits.memory_mib + KERNEL_MIB + MONITOR_MIB + machine.TRANSLATED_MIB
    return msgspec.structs.replace(limits, memory_mib=memory, pids=MONITOR_PIDS + size(limits).vcpus)


def monitor_ids(facts: Facts) -> dict[str, Any]:
    """Of the range an id that is nobody anywhere. With one id alone it is the caller's, which the empty root, the
    namespaces and the filters then keep from everything."""
    found = ids.ids(facts)
    return found if found["mode"] == "one" else {**found, "uid": 1, "gid": 1}


def described(ground: Ground, what: Size, words: str = "") -> machine.Machine:
    """`words`: of the kernel, for a machine that boots."""
    return machine.Machine(
        vcpus=what.vcpus, memory_mib=what.ram_mib, kernel=KERNEL_INSIDE, initramfs=INITRAMFS_INSIDE,
        command_line=words, accelerator=ground.accelerator,
        drives=(machine.Drive(id="root", path=ground.root, read_only=True), machine.Drive(id="disk", path="disk")),
    )  # fmt: skip


def shape(ground: Ground) -> str:
    """Changes with everything that QEMU is told about its machines, whatever their size."""
    like = described(ground, Size(ram_mib=machine.MIN_MEMORY_MIB, vcpus=1, disk_mib=1))
    argv = machine.qemu_argv(like, FILES, incoming=True, memory=MEMORY_INSIDE, sockets=SOCKETS)
    return hashlib.sha256("\0".join(argv).encode()).hexdigest()[:16]


def launcher_plan(
    facts: Facts, ground: Ground, seat: Seat, state: dict[str, Any], argv: list[str], *, sandbox_id: str,
    deadline: float | None = None, owner: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """The whole plan for one monitor. `owner`: the pid without which nobody wants it."""
    binds = [Bind(ground.bundle.path, INSIDE), *_opened_by_name(ground, seat, argv)]
    skeleton = [Entry("dir", path) for path in _DIRECTORIES]
    return {
        "sandbox_id": sandbox_id, "run_dir": seat.run_dir, "guest_path": str(facts.guest), "hostname": "vmm",
        "ids": state["ids"], "cgroups": state.get("cgroups", []), "freezer": state.get("freezer"),
        "memory_events": state.get("memory_events", ""), "skeleton": msgspec.to_builtins(skeleton),
        "binds": msgspec.to_builtins(binds), "hide": [], "disk_mib": 1, "inodes": 64, "shm_mib": 1,
        "devices": ["null"], "proc_read_only": [], "proc_masked": [],
        "landlock": {"read": [INSIDE, "/machine", "/dev/null"], "write": [], "device": ["/dev/null"], "change": []},
        "guest_env": {}, "guest_caps": [], "pids": MONITOR_PIDS, "deadline": deadline or 0, "owner": owner,
        "restore": "", "keep_disk": "",
        "program": {**program(ground, seat, argv), "file_bytes": state["size"]["disk_mib"] << 20},
    }  # fmt: skip


def _opened_by_name(ground: Ground, seat: Seat, argv: list[str]) -> list[Bind]:
    found = [Bind(seat.memory, MEMORY_INSIDE)] if seat.memory else []
    if "-kernel" in argv:
        found += [Bind(ground.kernel, KERNEL_INSIDE), Bind(ground.initramfs, INITRAMFS_INSIDE)]
    return found


def program(ground: Ground, seat: Seat, argv: list[str]) -> dict[str, Any]:
    kept = {"root": (seat.root, False), "disk": (seat.disk, True)}
    if ground.accelerator == "kvm":
        kept["kvm"] = ("/dev/kvm", True)
    return {
        "argv": [*ground.bundle.command(), *argv],
        # one arena: its few threads hardly allocate, and each arena of its own costs memory for every machine
        "env": {"HOME": "/", "LC_ALL": "C", "MALLOC_ARENA_MAX": "1"},
        "files": [
            {"path": path, "write": write, "device": name == "kvm", "fd": FILES[name]}
            for name, (path, write) in kept.items()
        ],
        "listen": [{"name": f"{name}.sock", "fd": fd} for name, fd in SOCKETS.items()],
        "console_fd": CONSOLE_FD,
    }
