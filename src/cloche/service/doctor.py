"""Judges the machine: what is there, what is missing, and the one command that mends it."""

from __future__ import annotations

from collections.abc import Iterator

from cloche.engines.base import Check, CheckStatus
from cloche.service.machine import Machine

MIN_PYTHON = (3, 11)
MIN_KERNEL = (5, 12)
GOOD_FREE_BYTES = 2 << 30
MIN_FREE_BYTES = 64 << 20
MIN_SUBIDS = 65536
_DELEGATE = (
    "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu memory pids\\n' | "
    "sudo tee /etc/systemd/system/user@.service.d/cloche.conf && sudo systemctl daemon-reload"
)


def machine_checks(machine: Machine) -> list[Check]:
    """What belongs to no engine. Two lines are required: Python and the data directory."""
    return [
        _python(machine),
        _home(machine),
        _kernel(machine),
        *_user_namespaces(machine),
        _user_ids(machine),
        _cgroups(machine),
        *_others(machine),
    ]


def _python(machine: Machine) -> Check:
    version = ".".join(map(str, machine.python))
    if machine.python[:2] >= MIN_PYTHON:
        return Check(id="python", status="ok", summary=f"Python {version}", required=True)
    return Check(
        id="python",
        status="missing",
        summary=f"Python {version}; 3.11 or newer is needed",
        remedy="sudo apt-get install python3.11",
        required=True,
    )


def _home(machine: Machine) -> Check:
    free = machine.home_free_bytes or 0
    space = f"{free / (1 << 30):.1f} GiB free"
    if not machine.home_writable:
        return Check(
            id="home",
            status="missing",
            summary=f"{machine.home} cannot be written",
            required=True,
            remedy="export CLOCHE_HOME=$HOME/.local/share/cloche",
        )
    if free >= GOOD_FREE_BYTES:
        return Check(id="home", status="ok", summary=f"{machine.home}, {space}", required=True)
    status: CheckStatus = "degraded" if free >= MIN_FREE_BYTES else "missing"
    return Check(
        id="home",
        status=status,
        summary=f"{machine.home} has little room: {space}",
        required=True,
        remedy=f"df -h {machine.home}",
    )


def _kernel(machine: Machine) -> Check:
    if _version(machine.kernel) >= MIN_KERNEL:
        return Check(id="kernel", status="ok", summary=f"Linux {machine.kernel} ({machine.architecture})")
    return Check(
        id="kernel",
        status="degraded",
        summary=f"Linux {machine.kernel}; 5.12 or newer is wanted",
        remedy="sudo apt-get install linux-image-generic",
    )


def _version(release: str) -> tuple[int, ...]:
    numbers = release.partition("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def _user_namespaces(machine: Machine) -> Iterator[Check]:
    found = list(_namespace_obstacles(machine))
    yield from found
    if not found:
        yield Check(id="user_namespaces", status="ok", summary="user namespaces are allowed")


def _namespace_obstacles(machine: Machine) -> Iterator[Check]:
    if machine.max_user_namespaces is None:
        yield Check(
            id="user_namespaces",
            status="missing",
            summary="the kernel was built without user namespaces",
            remedy="sudo apt-get install linux-image-generic",
        )
    if machine.max_user_namespaces == 0:
        yield Check(
            id="max_user_namespaces",
            status="missing",
            summary="user.max_user_namespaces is 0",
            remedy="sudo sysctl -w user.max_user_namespaces=15000",
        )
    if machine.unprivileged_userns_clone == 0 and not machine.is_root:
        yield Check(
            id="unprivileged_userns_clone",
            status="missing",
            summary="only root may make user namespaces",
            remedy="sudo sysctl -w kernel.unprivileged_userns_clone=1",
        )
    if machine.apparmor_restrict and not machine.is_root:
        yield Check(
            id="apparmor_restrict_unprivileged_userns",
            status="missing",
            summary="AppArmor takes the rights away that a user namespace gives",
            remedy="sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )


def _user_ids(machine: Machine) -> Check:
    if machine.is_root:
        return Check(id="user_ids", status="ok", summary="root maps ids of its own choice")
    if not (machine.newuidmap and machine.newgidmap):
        return Check(
            id="user_ids",
            status="degraded",
            remedy="sudo apt-get install uidmap",
            summary="one user id only: newuidmap and newgidmap are missing (apt and databases need more)",
        )
    if min(machine.subuids, machine.subgids) >= MIN_SUBIDS:
        return Check(id="user_ids", status="ok", summary=f"{machine.subuids} user ids for {machine.user}")
    return Check(
        id="user_ids",
        status="degraded",
        summary=f"/etc/subuid or subgid give {machine.user} too few ids",
        remedy=f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {machine.user}",
    )


def _cgroups(machine: Machine) -> Check:
    have = ", ".join(sorted(machine.cgroup_controllers)) or "none"
    wanted = {"cpu", "memory", "pids"}
    if machine.cgroup == "none":
        return Check(
            id="cgroups",
            status="degraded",
            summary="no cgroups: default limits are not enforced, only pids",
            remedy="sudo mount -t cgroup2 none /sys/fs/cgroup",
        )
    summary = f"cgroup {machine.cgroup}; controllers that sandboxes can get: {have}"
    if wanted <= machine.cgroup_controllers:
        return Check(id="cgroups", status="ok", summary=summary)
    remedy = _DELEGATE if machine.cgroup == "v2" else "run as root, or boot with systemd.unified_cgroup_hierarchy=1"
    return Check(id="cgroups", status="degraded", summary=summary, remedy=remedy)


def _others(machine: Machine) -> Iterator[Check]:
    """What engines to come would use, and what the vm engine judges by itself. Nothing here needs mending."""
    yield _program(machine, "runsc", "gvisor")
    yield _program(machine, "docker", "docker")
    yield _program(machine, "podman", "docker")
    yield _kvm(machine)


def _program(machine: Machine, name: str, engine: str) -> Check:
    found = machine.programs.get(name, "not found")
    return Check(
        id=name, status="info", summary=f"{found}; for the {engine} engine, which this version does not have yet"
    )


def _kvm(machine: Machine) -> Check:
    summaries = {
        "absent": "/dev/kvm is not there",
        "forbidden": "/dev/kvm is there, but not for this user",
        "usable": "/dev/kvm is there; unproven until something has booted on it",
    }
    return Check(id="kvm", status="info", summary=f"{summaries[machine.kvm]}; for the vm engine")
