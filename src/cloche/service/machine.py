"""What this machine has, as plain facts. Looking changes nothing and takes milliseconds; `doctor` judges."""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import sys

import msgspec

_CONTROLLERS = frozenset({"cpu", "memory", "pids"})
_SYSCTLS = {
    "max_user_namespaces": "/proc/sys/user/max_user_namespaces",
    "unprivileged_userns_clone": "/proc/sys/kernel/unprivileged_userns_clone",
    "apparmor_restrict": "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
}


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """None where this kernel or system has no such thing. `subuids` counts ids that the user may map."""

    python: tuple[int, int, int]
    kernel: str
    architecture: str
    user: str
    is_root: bool
    home: str
    home_writable: bool
    home_free_bytes: int | None
    max_user_namespaces: int | None = None
    unprivileged_userns_clone: int | None = None
    apparmor_restrict: int | None = None
    newuidmap: str | None = None
    newgidmap: str | None = None
    subuids: int = 0
    subgids: int = 0
    cgroup: str = "none"
    cgroup_controllers: frozenset[str] = frozenset()
    programs: dict[str, str] = {}
    kvm: str = "absent"


def look(home: str) -> Machine:
    """The machine as it is now, with the data directory that is meant."""
    user = _user_name()
    cgroup, controllers = _cgroups()
    sysctls = {name: _number(path) for name, path in _SYSCTLS.items()}
    return Machine(
        python=sys.version_info[:3],
        kernel=platform.release(),
        architecture=platform.machine(),
        user=user,
        is_root=os.geteuid() == 0,
        home=home,
        home_writable=os.access(_existing(home), os.W_OK | os.X_OK),
        home_free_bytes=_free_bytes(_existing(home)),
        newuidmap=shutil.which("newuidmap"),
        newgidmap=shutil.which("newgidmap"),
        subuids=_ranges("/etc/subuid", user),
        subgids=_ranges("/etc/subgid", user),
        cgroup=cgroup,
        cgroup_controllers=controllers,
        programs=_programs(),
        kvm=_kvm(),
        **sysctls,
    )


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _existing(path: str) -> str:
    while not os.path.exists(path) and path != "/":
        path = os.path.dirname(path)
    return path


def _free_bytes(path: str) -> int | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _number(path: str) -> int | None:
    try:
        return int(_read(path))
    except ValueError:
        return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _ranges(path: str, user: str) -> int:
    """How many ids /etc/subuid or /etc/subgid gives to the user."""
    wanted = {user, str(os.geteuid())}
    entries = (line.split(":") for line in _read(path).splitlines())
    return sum(int(entry[2]) for entry in entries if len(entry) == 3 and entry[0] in wanted and entry[2].isdigit())


def _cgroups() -> tuple[str, frozenset[str]]:
    """The version in use, and the controllers that this user may hand to sandboxes."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return "v2", _delegated("/sys/fs/cgroup" + _own_cgroup())
    v1 = frozenset(name for name in _CONTROLLERS if os.path.isdir(f"/sys/fs/cgroup/{name}"))
    if not v1:
        return "none", frozenset()
    return "v1", frozenset(name for name in v1 if os.access(f"/sys/fs/cgroup/{name}", os.W_OK))


def _own_cgroup() -> str:
    lines = (line.partition("::") for line in _read("/proc/self/cgroup").splitlines())
    return next((path for number, _, path in lines if number == "0" and path != "/"), "")


def _delegated(directory: str) -> frozenset[str]:
    """Controllers of the nearest ancestor in which this user may make groups."""
    while directory.startswith("/sys/fs/cgroup"):
        if os.access(f"{directory}/cgroup.procs", os.W_OK) and os.access(directory, os.W_OK):
            return frozenset(_read(f"{directory}/cgroup.controllers").split()) & _CONTROLLERS
        directory = os.path.dirname(directory)
    return frozenset()


def _programs() -> dict[str, str]:
    names = ("runsc", "docker", "podman")
    found = {name: shutil.which(name) for name in names}
    return {name: path for name, path in found.items() if path}


def _kvm() -> str:
    if not os.path.exists("/dev/kvm"):
        return "absent"
    return "usable" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "forbidden"
