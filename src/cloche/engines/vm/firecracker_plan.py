"""What the launcher is told to put Firecracker into its box: the same almost empty root that QEMU has, with what
Firecracker opens by name as single mounts, and one directory that it may write, for its sockets and its captures. Pure.

The names inside are the same for all machines: those of the drives and of the vsock are in a capture's state."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import msgspec

from cloche.engines.launched.facts import Facts
from cloche.engines.vm import firecracker_api, machine, plan
from cloche.engines.vm.bundle import INSIDE
from cloche.engines.vm.plan import Ground, Seat, Size
from cloche.images import host
from cloche.images.host import Bind, Entry

#: of the run directory, and the same inside
DIRECTORY, DIRECTORY_INSIDE = "fc", "/fc"
API_SOCKET, VSOCK_SOCKET, STATE = "api.sock", "vsock.sock", "state"
NEW_STATE, NEW_MEMORY = "captured.state", "captured.memory"
#: a node of /dev/kvm that the box's id may open; the host's own where there is none
KVM_NODE = "kvm"
ROOT_INSIDE, DISK_INSIDE = "/machine/root", "/machine/disk"
_DIRECTORIES = ("/proc", "/sys", "/dev", "/tmp", "/run", "/etc", "/machine", INSIDE, DIRECTORY_INSIDE)  # noqa: S108


def monitor_ids(facts: Facts) -> dict[str, Any]:
    """As root an id that nobody has, as for QEMU. An ordinary user may open /dev/kvm by a group, which only a process
    that keeps its own ids does."""
    if facts.id_mode == "range":
        return plan.monitor_ids(facts)
    own = host.USER_ID
    return {"mode": "one", "uid": own, "gid": own, "uid_map": [[own, facts.uid, 1]], "gid_map": [[own, facts.gid, 1]]}


def described(ground: Ground, what: Size, words: str = "") -> machine.Machine:
    return msgspec.structs.replace(plan.described(ground, what, words), drives=(
        machine.Drive(id="root", path=ROOT_INSIDE, read_only=True), machine.Drive(id="disk", path=DISK_INSIDE),
    ))  # fmt: skip


def shape(ground: Ground) -> str:
    """Changes with everything that Firecracker is told about its machines, whatever their size."""
    like = described(ground, Size(ram_mib=machine.MIN_MEMORY_MIB, vcpus=1, disk_mib=1))
    return hashlib.sha256(msgspec.json.encode(configuration(like))).hexdigest()[:16]


def configuration(described: machine.Machine) -> list[tuple[str, dict[str, Any]]]:
    """Resource and body, in the order in which they are put."""
    api = firecracker_api
    return [
        ("machine-config", api.machine_config(described)),
        ("boot-source", api.boot_source(described, described.kernel, described.initramfs)),
        *((f"drives/{drive.id}", api.drive(drive, drive.path)) for drive in described.drives),
        ("vsock", api.vsock(f"{DIRECTORY_INSIDE}/{VSOCK_SOCKET}")),
        ("entropy", {}),
    ]


def launcher_plan(
    facts: Facts, ground: Ground, seat: Seat, state: dict[str, Any], *, sandbox_id: str, boots: bool,
    deadline: float | None = None, owner: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """`boots`: it gets a kernel, else the memory that it is restored with."""
    common = plan.launcher_plan(facts, ground, seat, state, [], sandbox_id=sandbox_id, deadline=deadline, owner=owner)
    writes = {"write": [DIRECTORY_INSIDE], "change": [DISK_INSIDE], "device": ["/dev/null", "/dev/kvm"]}
    return {
        **common, "skeleton": msgspec.to_builtins([Entry("dir", path) for path in _DIRECTORIES]),
        "binds": [*msgspec.to_builtins(_binds(ground, seat, boots)), _kvm(facts, seat)],
        "landlock": {**common["landlock"], **writes}, "program": _program(sandbox_id, state),
    }  # fmt: skip


def _binds(ground: Ground, seat: Seat, boots: bool) -> list[Bind]:
    memory = [Bind(seat.memory, plan.MEMORY_INSIDE)] if seat.memory else []
    kernel = [Bind(ground.kernel, plan.KERNEL_INSIDE), Bind(ground.initramfs, plan.INITRAMFS_INSIDE)]
    return [
        Bind(ground.bundle.path, INSIDE), Bind(seat.root, ROOT_INSIDE), *(kernel if boots else memory),
        Bind(seat.disk, DISK_INSIDE, read_only=False),
        Bind(os.path.join(seat.run_dir, DIRECTORY), DIRECTORY_INSIDE, read_only=False),
    ]  # fmt: skip


def _kvm(facts: Facts, seat: Seat) -> dict[str, Any]:
    source = os.path.join(seat.run_dir, KVM_NODE) if facts.uid == 0 else "/dev/kvm"
    return {"source": source, "target": "/dev/kvm", "read_only": False, "optional": False, "kvm": True}


def _program(sandbox_id: str, state: dict[str, Any]) -> dict[str, Any]:
    size = state["size"]
    return {
        "argv": [
            f"{INSIDE}/firecracker", "--id", sandbox_id.replace("_", "-"), "--level", "Warning",
            "--api-sock", f"{DIRECTORY_INSIDE}/{API_SOCKET}",
        ],
        "env": {}, "files": [], "listen": [], "console_fd": 0, "sockets": True,
        # the disk, or a capture's memory, which it writes by itself
        "file_bytes": max(size["disk_mib"], size["ram_mib"]) << 20,
    }  # fmt: skip
