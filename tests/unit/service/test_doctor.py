"""Doctor's judgement of the machine, from facts alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cloche.service.doctor import machine_checks
from cloche.service.machine import Machine, look

GOOD = Machine(
    python=(3, 11, 4), kernel="6.8.0-40-generic", architecture="x86_64", user="ada", is_root=False, home="/h/cloche",
    home_writable=True, home_free_bytes=50 << 30, max_user_namespaces=15000, newuidmap="/usr/bin/newuidmap",
    newgidmap="/usr/bin/newgidmap", subuids=65536, subgids=65536, cgroup="v2",
    cgroup_controllers=frozenset({"cpu", "memory", "pids"}), programs={"runsc": "/usr/bin/runsc"}, kvm="usable",
)  # fmt: skip


def judged(**changes: Any) -> dict[str, Any]:
    return {check.id: check for check in machine_checks(msgspec.structs.replace(GOOD, **changes))}


def test_a_good_machine_has_nothing_to_mend() -> None:
    checks = judged()
    assert {check.status for check in checks.values()} == {"ok", "info"}
    assert "unproven" in checks["kvm"].summary


@pytest.mark.parametrize(
    ("changes", "name", "status", "remedy"),
    [
        ({"python": (3, 9, 2)}, "python", "missing", "python3.11"),
        ({"home_writable": False}, "home", "missing", "CLOCHE_HOME"),
        ({"home_free_bytes": 100 << 20}, "home", "degraded", "df -h"),
        ({"home_free_bytes": 0}, "home", "missing", "df -h"),
        ({"home_free_bytes": None}, "home", "missing", "df -h"),
        ({"kernel": "4.19.0"}, "kernel", "degraded", "linux-image"),
        ({"max_user_namespaces": 0}, "max_user_namespaces", "missing", "user.max_user_namespaces"),
        ({"max_user_namespaces": None}, "user_namespaces", "missing", "linux-image"),
        ({"unprivileged_userns_clone": 0}, "unprivileged_userns_clone", "missing", "unprivileged_userns_clone=1"),
        (
            {"apparmor_restrict": 1},
            "apparmor_restrict_unprivileged_userns",
            "missing",
            "restrict_unprivileged_userns=0",
        ),
        ({"newuidmap": None}, "user_ids", "degraded", "uidmap"),
        ({"subuids": 0}, "user_ids", "degraded", "usermod --add-subuids"),
        ({"cgroup": "none", "cgroup_controllers": frozenset()}, "cgroups", "degraded", "cgroup2"),
        ({"cgroup_controllers": frozenset({"pids"})}, "cgroups", "degraded", "Delegate="),
    ],
)
def test_what_is_wrong_has_one_remedy(changes: dict[str, Any], name: str, status: str, remedy: str) -> None:
    check = judged(**changes)[name]
    assert check.status == status
    assert remedy in check.remedy
    assert "\n" not in check.remedy


@pytest.mark.parametrize(
    "changes", [{"kvm": "forbidden"}, {"kvm": "usable"}, {"programs": {}}, {"programs": {"runsc": "/usr/bin/runsc"}}]
)
def test_what_no_engine_uses_yet_is_said_and_not_mended(changes: dict[str, Any]) -> None:
    assert "qemu-system-x86_64" not in judged(**changes)  # the vm engine says it better
    for name in ("kvm", "runsc"):
        check = judged(**changes)[name]
        assert (check.status, check.remedy) == ("info", None)
        assert "engine" in check.summary


def test_root_needs_no_ids_and_no_permission() -> None:
    checks = judged(is_root=True, subuids=0, newuidmap=None, unprivileged_userns_clone=0, apparmor_restrict=1)
    assert checks["user_ids"].status == "ok"
    assert checks["user_namespaces"].status == "ok"


def test_looking_at_this_machine_works(tmp_path: Any) -> None:
    machine = look(str(tmp_path / "not" / "made" / "yet"))
    assert machine.home_writable
    assert machine_checks(machine)
    assert not (tmp_path / "not").exists()
