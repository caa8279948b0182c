"""Everything that is to happen to make one box, as data. Pure: the launcher (guest/internal/box) executes it, and both
agree field by field on guest/internal/box/plan.go."""

from __future__ import annotations

import math
import posixpath
from typing import Any

import msgspec

from cloche.engines.base import Box
from cloche.engines.launched import cgroups, ids
from cloche.engines.launched.facts import Facts
from cloche.images import host
from cloche.model.errors import InvalidError, NeedsSubuidError, UnavailableError
from cloche.model.limits import ResolvedLimits
from cloche.model.sandbox import Mount, SandboxSpec

STATE_VERSION = 1
INODES_PER_MIB, MIN_INODES = 256, 16384
#: what the launcher adds for the guest itself (limitProcesses in guest/internal/box/init.go)
PIDS_HEADROOM = 256

#: harmless devices of the host that are bound one by one
DEVICES = ["null", "zero", "full", "random", "urandom", "tty"]
PROC_READ_ONLY = ["sys", "bus", "fs", "irq", "sysrq-trigger"]
PROC_MASKED = [
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "kallsyms",
    "kpagecount",
    "kpageflags",
    "kpagecgroup",
    "latency_stats",
    "timer_list",
    "sched_debug",
    "scsi",
    "acpi",
    "asound",
    "interrupts",
    "vmallocinfo",
    "slabinfo",
    "modules",
    "config.gz",
    "mtrr",
    "dynamic_debug",
    "sysvipc",
    "iomem",
    "ioports",
]
#: CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE: what the guest needs to
#: serve files and start processes as other ids, over its own user namespace only
GUEST_CAPABILITIES = [0, 1, 3, 4, 5, 6, 7, 8, 10]
_NOT_A_TARGET = ("/", "/proc", "/sys", "/dev", "/usr", "/etc", "/.cloche", "/bin", "/lib", "/lib64", "/sbin")


def engine_state(facts: Facts, home_tag: str, sandbox_id: str, spec: SandboxSpec) -> dict[str, Any]:
    """What is written to the store before anything is made. Raises InvalidError, UnavailableError, NeedsSubuidError,
    LimitUnenforceableError."""
    limits = spec.limits.resolved()
    check_spec(facts, spec)
    cgroups.refuse_unenforceable(spec, enforced_limits(facts))
    groups = cgroups.groups(facts.cgroups, home_tag, sandbox_id, limits) if facts.cgroups else {}
    return {"version": STATE_VERSION, "ids": ids.ids(facts), **groups}


def check_spec(facts: Facts, spec: SandboxSpec) -> None:
    if spec.isolation not in (None, "namespace"):
        raise UnavailableError(f"the namespace engine cannot give isolation {spec.isolation!r}")
    if spec.image != "host":
        raise UnavailableError(f"image {spec.image!r}: only the image `host` exists so far", remedy="leave --image out")
    if not facts.many_users and spec.user not in ("user", str(host.USER_ID)):
        raise NeedsSubuidError(
            f"user {spec.user!r} needs more than one user id, and an ordinary user can map only its own",
        )
    for mount in spec.mounts:
        check_target(mount)
    for path in spec.host_paths:
        host.check_host_path(path)


def check_target(mount: Mount) -> None:
    # in the one form that comparing can rely on: normpath keeps two leading slashes
    target = "/" + posixpath.normpath(mount.target).lstrip("/")
    taken = any(target == place or target.startswith(place + "/") for place in _NOT_A_TARGET[1:])
    if target == "/" or taken:
        raise InvalidError(f"nothing can be mounted at {mount.target}: the sandbox has its own", field="mounts.target")


def enforced_limits(facts: Facts) -> frozenset[str]:
    """pids by RLIMIT_NPROC, open_files by RLIMIT_NOFILE and disk by the size of a tmpfs hold everywhere."""
    return frozenset({"pids", "disk", "open_files"}) | (facts.cgroups.enforces() if facts.cgroups else frozenset())


def fixed_limits(facts: Facts, old: ResolvedLimits, new: ResolvedLimits) -> list[str]:
    """What was decided when the box was made: the size of its tmpfs, and how many processes its guest may ever
    allow (the hard RLIMIT_NPROC); and what only a cgroup can hold where there is none."""
    enforced = enforced_limits(facts)
    values = {"memory": (old.memory_mib, new.memory_mib), "cpus": (old.cpus, new.cpus)}
    fixed = [name for name, (was, wanted) in values.items() if was != wanted and name not in enforced]
    if old.disk_mib != new.disk_mib:
        fixed.append("disk")
    return [*fixed, "pids"] if new.pids > old.pids + PIDS_HEADROOM else fixed


def launcher_plan(facts: Facts, box: Box, *, restore: str = "") -> dict[str, Any]:
    """The whole plan for one start. `restore`: the disk that an earlier stop kept."""
    limits = box.spec.limits.resolved()
    root = host.root_filesystem(facts.host, box.sandbox_id, box.hostname, tuple(box.spec.host_paths))
    state = box.engine_state
    return {
        "sandbox_id": box.sandbox_id,
        "run_dir": box.run_dir,
        "guest_path": str(facts.guest),
        "hostname": box.hostname,
        "ids": state["ids"],
        "cgroups": state.get("cgroups", []),
        "freezer": state.get("freezer"),
        "memory_events": state.get("memory_events", ""),
        "skeleton": msgspec.to_builtins(list(root.entries)),
        "binds": msgspec.to_builtins(binds(facts, box.spec, root)),
        "hide": list(box.spec.hide),
        **sizes(limits),
        "devices": DEVICES,
        "proc_read_only": PROC_READ_ONLY,
        "proc_masked": PROC_MASKED,
        "landlock": landlock(root, box.spec),
        # as many as it may use: what its runtime prepares for each more is a tenth of all that making a sandbox takes
        "guest_env": {"PATH": root.path, "GOMAXPROCS": str(math.ceil(limits.cpus))},
        "guest_caps": GUEST_CAPABILITIES if facts.many_users else [],
        "pids": limits.pids,
        "deadline": box.deadline or 0,
        "restore": restore,
        "keep_disk": saved_disk(box),
    }


def saved_disk(box: Box) -> str:
    return f"{box.state_dir}/disk.saved"


def binds(facts: Facts, spec: SandboxSpec, root: host.RootFilesystem) -> list[host.Bind]:
    own = [host.Bind(str(facts.guest), "/.cloche/guest")]
    asked = [host.Bind(mount.source, mount.target, read_only=mount.mode == "ro") for mount in spec.mounts]
    return [*root.binds, *own, *sorted(asked, key=lambda bind: bind.target)]


def sizes(limits: ResolvedLimits) -> dict[str, int]:
    return {
        "disk_mib": limits.disk_mib,
        "inodes": max(MIN_INODES, limits.disk_mib * INODES_PER_MIB),
        "shm_mib": max(1, limits.memory_mib // 2),
    }


def landlock(root: host.RootFilesystem, spec: SandboxSpec) -> dict[str, list[str]]:
    """/usr, the binaries and host paths are only read; whatever is not named here can be read and run, not written."""
    read_only = {bind.target for bind in root.binds} | {"/usr", "/proc", "/sys", "/dev", "/.cloche"}
    top = {entry.path for entry in root.entries if entry.kind == "dir" and entry.path.count("/") == 1}
    written = [*sorted(top - read_only), "/dev/shm", *sorted(m.target for m in spec.mounts if m.mode == "rw")]  # noqa: S108
    return {"read": ["/"], "write": written, "device": ["/dev"], "change": ["/proc"]}
