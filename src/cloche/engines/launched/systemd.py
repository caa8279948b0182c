"""Asks the user's own systemd for a cgroup that this process may divide (`Delegate=yes`), so that an ordinary user's
sandboxes get memory and CPU limits too.

Protocol: org.freedesktop.systemd1(5), StartTransientUnit; https://systemd.io/CGROUP_DELEGATION."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

CALL_TIMEOUT_SECONDS = 2.0
#: the node moves into a group of this name, since a group that hands controllers down may hold no process itself
NODE_GROUP = "node"
CONTROLLERS = ("cpu", "memory", "pids")


def delegate(root: str = "/sys/fs/cgroup", own_cgroup: str = "/proc/self/cgroup") -> bool:
    """Move this process into a scope of its own and switch its controllers on. False where there is no systemd to
    ask, or it refuses; nothing is changed then. Blocks for at most a few seconds."""
    address = bus_address(os.environ, os.geteuid())
    if address is None:
        return False
    scope = f"cloche-node-{os.getpid()}.scope"
    try:
        start_scope(address, scope)
        group = await_scope(Path(own_cgroup), scope)
        return group is not None and divide(Path(root + group))
    except Exception:
        # whatever a foreign bus answers, sandboxes without these limits are still possible
        return False


def bus_address(environment: Any, uid: int) -> str | None:
    """The user's bus: what the environment names, else its well-known socket if there is one."""
    if address := environment.get("DBUS_SESSION_BUS_ADDRESS"):
        return str(address)
    place = f"{environment.get('XDG_RUNTIME_DIR') or f'/run/user/{uid}'}/bus"
    return f"unix:path={place}" if os.path.exists(place) else None


def start_scope(address: str, scope: str) -> None:
    """Raises jeepney's errors, OSError, TimeoutError and ValueError (an address that it cannot read)."""
    from jeepney import DBusAddress, new_method_call
    from jeepney.io.blocking import open_dbus_connection
    from jeepney.wrappers import unwrap_msg

    manager = DBusAddress(
        "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
    )
    properties = [
        ("Description", ("s", "Cloche sandboxes")),
        ("PIDs", ("au", [os.getpid()])),
        ("Delegate", ("b", True)),
        ("CollectMode", ("s", "inactive-or-failed")),
    ]
    body: tuple[Any, ...] = (scope, "fail", properties, [])
    with open_dbus_connection(bus=address) as connection:
        call = new_method_call(manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)
        unwrap_msg(connection.send_and_get_reply(call, timeout=CALL_TIMEOUT_SECONDS))


def await_scope(own_cgroup: Path, scope: str) -> str | None:
    """This process's group once systemd has moved it there; the call answers before that."""
    deadline = time.monotonic() + CALL_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        for line in own_cgroup.read_text().splitlines():
            if line.startswith("0::") and line.endswith(f"/{scope}"):
                return line[3:]
        time.sleep(0.005)
    return None


def divide(group: Path) -> bool:
    """Whether children of the group now get at least memory and pids."""
    offered = set((group / "cgroup.controllers").read_text().split())
    node = group / NODE_GROUP
    node.mkdir(exist_ok=True)
    (node / "cgroup.procs").write_text(str(os.getpid()))
    wanted = [name for name in CONTROLLERS if name in offered]
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
    return {"memory", "pids"} <= set(wanted)
