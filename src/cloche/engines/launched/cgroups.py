"""Where this process may make cgroups, in version 2 or 1, and what to write for each limit.

`find` looks; everything else is pure. Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/*.rst."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloche.model.errors import LimitUnenforceableError
from cloche.model.limits import ResolvedLimits
from cloche.model.sandbox import SandboxSpec

DELEGATE_REMEDY = "run Cloche as root or in a delegated cgroup (systemd-run --user --scope -p Delegate=yes cloche …)"
CPU_PERIOD_MICROSECONDS = 100_000
#: the guest's own threads, counted by the same controller as user code
GUEST_PIDS = 64
REMOVE_TRIES = 500
GLANCE_BYTES = 64 << 10
#: without these a box could use any amount of swap beside its memory; kernels that do not count swap lack them
SWAP_FILES = ["memory.memsw.limit_in_bytes", "memory.swap.max"]
V1_CONTROLLERS = ("memory", "cpu", "cpuacct", "pids", "freezer")


@dataclass(frozen=True)
class Layout:
    """`parents`: controller → directory in which this process may make groups. Version 2 has one for all."""

    version: int
    parents: dict[str, str]

    def enforces(self) -> frozenset[str]:
        names = {"memory": "memory", "cpu": "cpus"}
        return frozenset(limit for controller, limit in names.items() if controller in self.parents)

    @property
    def can_freeze(self) -> bool:
        return self.version == 2 or "freezer" in self.parents


def home_tag(home: str) -> str:
    """Names the data directory in cgroup paths."""
    return hashlib.sha256(home.encode()).hexdigest()[:10]


def refuse_unenforceable(spec: SandboxSpec, enforced: frozenset[str]) -> None:
    missing = sorted(spec.limits.asked() - enforced)
    if missing:
        raise LimitUnenforceableError(
            f"the limit on {' and '.join(missing)} cannot be enforced here: this user may not make cgroups",
            remedy=f"leave the limit out, or {DELEGATE_REMEDY}",
            limits=missing,
        )


def find() -> Layout | None:
    """The usable layout, or None when no group can be made (an ordinary user without delegation)."""
    mounts = parse_mounts(_read("/proc/self/mountinfo"))
    own = parse_own(_read("/proc/self/cgroup"))
    return _find_v2(mounts, own) or _find_v1(mounts, own)


def parse_mounts(mountinfo: str) -> dict[str, str]:
    """Controller → mount point, for version 1; the key "" is version 2's."""
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 5 or len(rest) < 3:
            continue
        if rest[0] == "cgroup2":
            found.setdefault("", fields[4])
        elif rest[0] == "cgroup":
            found.update({option: fields[4] for option in rest[2].split(",") if option in V1_CONTROLLERS})
    return found


def parse_own(text: str) -> dict[str, str]:
    """Controller → this process's group; the key "" is version 2's."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _find_v1(mounts: dict[str, str], own: dict[str, str]) -> Layout | None:
    parents = {}
    for controller in V1_CONTROLLERS:
        if controller in mounts:
            place = _usable(mounts[controller], own.get(controller, "/"))
            if place:
                parents[controller] = place
    return Layout(1, parents) if parents else None


def _find_v2(mounts: dict[str, str], own: dict[str, str]) -> Layout | None:
    """A group whose children get memory, cpu and pids. A group with processes of its own may not hand controllers down,
    unless it is the real root."""
    if "" not in mounts:
        return None
    group = own.get("", "/")
    for candidate in (group, os.path.dirname(group), "/"):
        place = _usable(mounts[""], candidate)
        if place and {"memory", "pids"} <= set(_read(f"{place}/cgroup.subtree_control").split()):
            controllers = _read(f"{place}/cgroup.subtree_control").split()
            return Layout(2, {name: place for name in controllers if name in ("memory", "cpu", "pids")})
    return None


def _usable(mount: str, group: str) -> str | None:
    """The process's own group if it can be seen and written, else the mount's root (a container shows only that)."""
    for place in (os.path.normpath(mount + group), mount):
        if os.access(place, os.W_OK | os.X_OK) and os.path.exists(f"{place}/cgroup.procs"):
            return place
    return None


def groups(
    layout: Layout, home_tag: str, sandbox_id: str, limits: ResolvedLimits, pids_slack: int = GUEST_PIDS
) -> dict[str, Any]:
    """The plan's `cgroups`, `freezer` and `memory_events`. Directories are named by the data directory and the id."""
    pids = limits.pids + pids_slack
    if layout.version == 2:
        return _groups_v2(layout, f"cloche-{home_tag}", sandbox_id, limits, pids)
    places = {name: f"{parent}/cloche-{home_tag}/{sandbox_id}" for name, parent in layout.parents.items()}
    writes = _v1_writes(limits, pids)
    made = [
        {"dir": place, "writes": writes.get(name, []), "optional": SWAP_FILES} for name, place in sorted(places.items())
    ]
    return {
        "cgroups": made,
        "freezer": _v1_freezer(places.get("freezer")),
        "memory_events": f"{places['memory']}/memory.oom_control" if "memory" in places else "",
        "usage": {"version": 1, **places},
    }


def enter(groups: list[dict[str, Any]], pid: int) -> None:
    """Make the plan's `cgroups` with their limits and put a process into them that was started before. It must be one
    that runs nothing of a sandbox's yet. Raises OSError."""
    for group in groups:
        os.makedirs(group["dir"], exist_ok=True)
        _write_all(group["dir"], group["writes"], group["optional"])
        Path(group["dir"], "cgroup.procs").write_text(str(pid))


def rewrite(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    """Write the limits in which `new` differs from `old`, both the plan's `cgroups` of one box. Raises OSError, when a
    box uses more than it may have, for one."""
    before = {(group["dir"], file): value for group in old for file, value in group["writes"]}
    for group in new:
        changed = [write for write in group["writes"] if before.get((group["dir"], write[0])) != write[1]]
        _write_all(group["dir"], changed, group["optional"])


def _write_all(directory: str, writes: list[list[str]], optional: list[str]) -> None:
    try:
        _write_in_order(directory, writes, optional)
    except OSError:
        # version 1 has two limits on memory of which one is never above the other: up and down need other orders
        _write_in_order(directory, writes[::-1], optional)


def _write_in_order(directory: str, writes: list[list[str]], optional: list[str]) -> None:
    for file, value in writes:
        try:
            Path(directory, file).write_text(value)
        except FileNotFoundError:
            if file not in optional:
                raise


def _v1_writes(limits: ResolvedLimits, pids: int) -> dict[str, list[list[str]]]:
    quota = int(limits.cpus * CPU_PERIOD_MICROSECONDS)
    memory = str(limits.memory_mib << 20)
    return {
        # in this order: the limit with swap may not be below the one without
        "memory": [["memory.limit_in_bytes", memory], ["memory.memsw.limit_in_bytes", memory]],
        "cpu": [["cpu.cfs_period_us", str(CPU_PERIOD_MICROSECONDS)], ["cpu.cfs_quota_us", str(max(quota, 1000))]],
        "pids": [["pids.max", str(pids)]],
    }


def _v1_freezer(place: str | None) -> dict[str, str] | None:
    if place is None:
        return None
    file = f"{place}/freezer.state"
    return {"file": file, "freeze": "FROZEN", "thaw": "THAWED", "state": file, "frozen": "FROZEN"}


def _groups_v2(layout: Layout, tag: str, sandbox_id: str, limits: ResolvedLimits, pids: int) -> dict[str, Any]:
    parent = next(iter(layout.parents.values()))
    place = f"{parent}/{tag}-{sandbox_id}"
    quota = max(int(limits.cpus * CPU_PERIOD_MICROSECONDS), 1000)
    writes = {
        "memory": [["memory.max", str(limits.memory_mib << 20)], ["memory.swap.max", "0"], ["memory.oom.group", "0"]],
        "cpu": [["cpu.max", f"{quota} {CPU_PERIOD_MICROSECONDS}"]],
        "pids": [["pids.max", str(pids)]],
    }
    wanted = [write for name in ("memory", "cpu", "pids") if name in layout.parents for write in writes[name]]
    freezer = {"file": f"{place}/cgroup.freeze", "freeze": "1", "thaw": "0", "state": f"{place}/cgroup.events",
               "frozen": "frozen 1"}  # fmt: skip
    return {
        "cgroups": [{"dir": place, "writes": wanted, "optional": SWAP_FILES}],
        "freezer": freezer,
        "memory_events": f"{place}/memory.events",
        "usage": {"version": 2, "group": place},
    }


def read_usage(usage: dict[str, Any]) -> dict[str, int | float]:
    """CPU seconds, memory and pids of one box from its groups; what cannot be read is left out."""
    if not usage:
        return {}
    if usage["version"] == 1:
        return _read_v1(usage)
    group = usage["group"]
    found: dict[str, int | float] = {}
    for name, file in (
        ("memory_bytes", "memory.current"),
        ("memory_peak_bytes", "memory.peak"),
        ("pids", "pids.current"),
    ):
        _put_number(found, name, f"{group}/{file}")
    for line in _glance(f"{group}/cpu.stat").splitlines():
        if line.startswith("usage_usec "):
            found["cpu_seconds"] = int(line.split()[1]) / 1e6
    _put_processes(found, group)
    return found


def _read_v1(usage: dict[str, Any]) -> dict[str, int | float]:
    found: dict[str, int | float] = {}
    if "memory" in usage:
        _put_number(found, "memory_bytes", f"{usage['memory']}/memory.usage_in_bytes")
        _put_number(found, "memory_peak_bytes", f"{usage['memory']}/memory.max_usage_in_bytes")
    if "cpuacct" in usage and (nanoseconds := _glance(f"{usage['cpuacct']}/cpuacct.usage").strip()).isdigit():
        found["cpu_seconds"] = int(nanoseconds) / 1e9
    if "pids" in usage:
        _put_number(found, "pids", f"{usage['pids']}/pids.current")
        _put_processes(found, usage["pids"])
    return found


def _put_processes(found: dict[str, int | float], group: str) -> None:
    # one of them is the guest
    if members := _glance(f"{group}/cgroup.procs").split():
        found["processes"] = len(members) - 1


def _put_number(found: dict[str, int | float], name: str, path: str) -> None:
    text = _glance(path).strip()
    if text.isdigit():
        found[name] = int(text)


def leftovers(layout: Layout | None, home_tag: str) -> list[str]:
    """Groups of boxes of this data directory that exist now."""
    found: list[str] = []
    for parent in sorted(set(layout.parents.values())) if layout else []:
        if layout and layout.version == 2:
            found += [str(group) for group in Path(parent).glob(f"cloche-{home_tag}-*")]
        else:
            found += [str(group) for group in Path(parent, f"cloche-{home_tag}").glob("sb_*")]
    return found


def remove(group: str) -> None:
    """Kill what is left in a group and remove it, and the data directory's own when it was the last. Only groups that
    this module named may be given."""
    for _ in range(REMOVE_TRIES):
        for pid in _read(f"{group}/cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(pid), signal.SIGKILL)
        try:
            os.rmdir(group)
        except FileNotFoundError:
            break
        except OSError:
            # the kernel lets a group go a moment after its last process
            time.sleep(0.002)
            continue
        break
    parent = os.path.dirname(group)
    if os.path.basename(parent).startswith("cloche-"):
        with contextlib.suppress(OSError):
            os.rmdir(parent)


def _glance(path: str) -> str:
    """A short file of the kernel's, read at the least cost."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, GLANCE_BYTES).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
