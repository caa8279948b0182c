"""Where cgroups can be made and what is written into them, for every layout that a machine may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche.engines.launched import cgroups
from cloche.engines.launched.cgroups import Layout, parse_mounts, parse_own
from cloche.model.limits import Limits

LIMITS = Limits(memory_mib=64, cpus=0.5, pids=16).resolved()
V1 = """\
24 18 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw
31 24 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 24 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
34 24 0:30 / /sys/fs/cgroup/freezer rw master:3 - cgroup cgroup rw,freezer
35 24 0:31 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
"""
V2 = "29 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
HYBRID = V1 + "36 24 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
NONE = "24 18 0:22 / /sys rw - sysfs sysfs rw\n25 18 0:5 / /proc rw - proc proc rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "found"),
    [
        (V1, {"memory": "/sys/fs/cgroup/memory", "cpu": "/sys/fs/cgroup/cpu,cpuacct",
              "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "pids": "/sys/fs/cgroup/pids",
              "freezer": "/sys/fs/cgroup/freezer"}),
        (V2, {"": "/sys/fs/cgroup"}),
        (NONE, {}),
        ("", {}),
        ("short line\n1 2 3 4 - \n", {}),
    ],
)  # fmt: skip
def test_mounts(mountinfo: str, found: dict[str, str]) -> None:
    assert parse_mounts(mountinfo) == found


def test_mounts_of_a_hybrid() -> None:
    assert parse_mounts(HYBRID) == parse_mounts(V1) | {"": "/sys/fs/cgroup/unified"}


def test_the_first_mount_of_version_2_counts() -> None:
    assert parse_mounts(V2 + V2.replace("/sys/fs/cgroup ", "/elsewhere ")) == {"": "/sys/fs/cgroup"}


def test_own_groups() -> None:
    text = "12:cpu,cpuacct:/user.slice\n5:memory:/a:b\n1:name=systemd:/init.scope\n0::/user.slice/session-1.scope\n"
    assert parse_own(text) == {
        "cpu": "/user.slice", "cpuacct": "/user.slice", "memory": "/a:b", "name=systemd": "/init.scope",
        "": "/user.slice/session-1.scope",
    }  # fmt: skip
    assert parse_own("") == {}


def _version_2(root: Path, controllers: str, group: str = "") -> None:
    place = root / group
    place.mkdir(parents=True, exist_ok=True)
    (place / "cgroup.procs").touch()
    (place / "cgroup.subtree_control").write_text(controllers)


def test_version_2_is_used_where_it_hands_down_memory_and_pids(tmp_path: Path) -> None:
    _version_2(tmp_path, "cpu io memory pids", "own")
    found = cgroups._find_v2({"": str(tmp_path)}, {"": "/own"})
    assert found == Layout(2, dict.fromkeys(("cpu", "memory", "pids"), str(tmp_path / "own")))
    assert found.enforces() == {"memory", "cpus"}
    assert found.can_freeze


@pytest.mark.parametrize("controllers", ["", "hugetlb", "memory", "cpu pids"])
def test_version_2_without_them_is_not(tmp_path: Path, controllers: str) -> None:
    _version_2(tmp_path, controllers)
    assert cgroups._find_v2({"": str(tmp_path)}, {"": "/"}) is None
    assert cgroups._find_v2({}, {"": "/"}) is None


def test_version_2_falls_back_to_the_top(tmp_path: Path) -> None:
    """A group with processes of its own hands nothing down; the real root does."""
    _version_2(tmp_path, "memory pids")
    _version_2(tmp_path, "", "session.scope")
    found = cgroups._find_v2({"": str(tmp_path)}, {"": "/session.scope"})
    assert found is not None
    assert set(found.parents.values()) == {str(tmp_path)}


def test_version_1_takes_what_may_be_written(tmp_path: Path) -> None:
    for name in ("memory", "pids"):
        (tmp_path / name / "own").mkdir(parents=True)
        (tmp_path / name / "own/cgroup.procs").touch()
    mounts = {name: str(tmp_path / name) for name in ("memory", "pids", "cpu")}
    found = cgroups._find_v1(mounts, {"memory": "/own", "pids": "/own"})
    assert found == Layout(1, {"memory": str(tmp_path / "memory/own"), "pids": str(tmp_path / "pids/own")})
    assert not found.can_freeze
    assert cgroups._find_v1({}, {}) is None


def test_groups_of_version_2() -> None:
    made = cgroups.groups(Layout(2, dict.fromkeys(("memory", "cpu", "pids"), "/cg")), "tag", "sb_1", LIMITS)
    (group,) = made["cgroups"]
    assert group["dir"] == "/cg/cloche-tag-sb_1"
    assert group["writes"] == [
        ["memory.max", str(64 << 20)], ["memory.swap.max", "0"], ["memory.oom.group", "0"],
        ["cpu.max", "50000 100000"], ["pids.max", str(16 + cgroups.GUEST_PIDS)],
    ]  # fmt: skip
    assert "memory.swap.max" in group["optional"]
    assert made["freezer"]["file"] == "/cg/cloche-tag-sb_1/cgroup.freeze"
    assert made["memory_events"] == "/cg/cloche-tag-sb_1/memory.events"


def test_groups_of_version_1() -> None:
    layout = Layout(1, {name: f"/cg/{name}" for name in ("memory", "cpu", "pids", "freezer")})
    made = cgroups.groups(layout, "tag", "sb_1", LIMITS)
    writes = {group["dir"]: group["writes"] for group in made["cgroups"]}
    limit = str(64 << 20)
    assert writes == {
        "/cg/memory/cloche-tag/sb_1": [["memory.limit_in_bytes", limit], ["memory.memsw.limit_in_bytes", limit]],
        "/cg/cpu/cloche-tag/sb_1": [["cpu.cfs_period_us", "100000"], ["cpu.cfs_quota_us", "50000"]],
        "/cg/pids/cloche-tag/sb_1": [["pids.max", str(16 + cgroups.GUEST_PIDS)]],
        "/cg/freezer/cloche-tag/sb_1": [],
    }
    assert made["freezer"]["freeze"] == "FROZEN"


def test_groups_of_a_part_of_version_1() -> None:
    made = cgroups.groups(Layout(1, {"pids": "/cg/pids"}), "tag", "sb_1", LIMITS)
    assert (made["freezer"], made["memory_events"]) == (None, "")
    assert made["usage"] == {"version": 1, "pids": "/cg/pids/cloche-tag/sb_1"}


def test_a_tiny_share_of_cpu_is_one_that_the_kernel_takes() -> None:
    limits = Limits(cpus=0.01).resolved()
    made = cgroups.groups(Layout(2, {"cpu": "/cg"}), "tag", "sb_1", limits)
    assert made["cgroups"][0]["writes"] == [["cpu.max", "1000 100000"]]


def test_usage_is_read_from_either_version(tmp_path: Path) -> None:
    for name, text in {"memory.current": "5\n", "memory.peak": "max\n", "pids.current": "3\n",
                       "cpu.stat": "usage_usec 1500000\nuser_usec 1\n", "memory.usage_in_bytes": "7",
                       "cpuacct.usage": "2000000000"}.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    second = cgroups.read_usage({"version": 2, "group": str(tmp_path)})
    assert second == {"memory_bytes": 5, "pids": 3, "cpu_seconds": 1.5}
    first = cgroups.read_usage({"version": 1, "memory": str(tmp_path), "cpuacct": str(tmp_path)})
    assert first == {"memory_bytes": 7, "cpu_seconds": 2.0}
    assert cgroups.read_usage({}) == {}


def test_leftovers_are_this_data_directorys_own(tmp_path: Path) -> None:
    for name in ("cloche-tag-sb_1", "cloche-other-sb_2", "system.slice"):
        (tmp_path / name).mkdir()
    (tmp_path / "cloche-tag/sb_3").mkdir(parents=True)
    parents = {"memory": str(tmp_path), "pids": str(tmp_path)}
    assert cgroups.leftovers(Layout(2, parents), "tag") == [str(tmp_path / "cloche-tag-sb_1")]
    assert cgroups.leftovers(Layout(1, parents), "tag") == [str(tmp_path / "cloche-tag/sb_3")]
    assert cgroups.leftovers(None, "tag") == []


def test_limits_are_rewritten(tmp_path: Path) -> None:
    made = cgroups.groups(Layout(1, {"memory": str(tmp_path)}), "tag", "sb_1", LIMITS)["cgroups"]
    place = Path(made[0]["dir"])
    place.mkdir(parents=True)
    for mib in (64, 32, 128, 128):
        wanted = Limits(memory_mib=mib, cpus=0.5, pids=16).resolved()
        changed = cgroups.groups(Layout(1, {"memory": str(tmp_path)}), "tag", "sb_1", wanted)["cgroups"]
        cgroups.rewrite(made, changed)
        made = changed
    for file in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        assert (place / file).read_text() == str(128 << 20)


def test_what_did_not_change_is_not_written(tmp_path: Path) -> None:
    made = cgroups.groups(Layout(2, dict.fromkeys(("memory", "cpu", "pids"), str(tmp_path))), "tag", "sb_1", LIMITS)
    cgroups.rewrite(made["cgroups"], made["cgroups"])
    assert list(tmp_path.iterdir()) == []
    other = Limits(memory_mib=64, cpus=0.5, pids=17).resolved()
    changed = cgroups.groups(Layout(2, dict.fromkeys(("memory", "cpu", "pids"), str(tmp_path))), "tag", "sb_1", other)
    Path(made["cgroups"][0]["dir"]).mkdir()
    cgroups.rewrite(made["cgroups"], changed["cgroups"])
    assert [path.name for path in Path(made["cgroups"][0]["dir"]).iterdir()] == ["pids.max"]


def test_a_group_that_is_gone_cannot_be_limited(tmp_path: Path) -> None:
    made = cgroups.groups(Layout(1, {"pids": str(tmp_path / "gone")}), "tag", "sb_1", LIMITS)["cgroups"]
    with pytest.raises(OSError, match="No such file"):
        cgroups.rewrite([], made)
