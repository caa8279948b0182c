"""The plan of a box is data: what it asks for is decided here and nowhere else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from cloche.engines.base import Box
from cloche.engines.launched import cgroups, ids
from cloche.engines.launched.cgroups import Layout
from cloche.engines.launched.facts import Facts, SubIds
from cloche.engines.namespace import plan
from cloche.images.host import HostSurvey
from cloche.model.errors import InvalidError, LimitUnenforceableError, NeedsSubuidError, UnavailableError
from cloche.model.limits import Limits
from cloche.model.sandbox import Mount, SandboxSpec

HOST = HostSurvey(top_links={"bin": "usr/bin"}, etc_binds={"ld.so.cache": "/etc/ld.so.cache"})
SUBIDS = SubIds(100000, 200000, 65536, "/usr/bin/newuidmap", "/usr/bin/newgidmap")
ONE = Facts(
    uid=1001, gid=1002, subids=None, cgroups=None, host=HOST, launcher=Path("/x/launcher"), guest=Path("/x/guest")
)
HELPER = dataclasses.replace(ONE, subids=SUBIDS)
ROOT = dataclasses.replace(ONE, uid=0, gid=0, cgroups=Layout(2, dict.fromkeys(("memory", "cpu", "pids"), "/cg")))


def made(facts: Facts, spec: SandboxSpec, **fields: Any) -> dict[str, Any]:
    state = plan.engine_state(facts, "tag", "sb_1", spec)
    box = Box(sandbox_id="sb_1", spec=spec, run_dir="/run/d", state_dir="/state/d", engine_state=state, **fields)
    return plan.launcher_plan(facts, box)


def test_ids_of_each_mode() -> None:
    assert ids.ids(ONE) == {
        "mode": "one",
        "uid": 1000,
        "gid": 1000,
        "uid_map": [[1000, 1001, 1]],
        "gid_map": [[1000, 1002, 1]],
    }
    helper = ids.ids(HELPER)
    assert helper["uid_map"] == [[0, 1001, 1], [1, 100000, 65536]]
    assert helper["gid_map"] == [[0, 1002, 1], [1, 200000, 65536]]
    root = ids.ids(ROOT)
    assert (root["mode"], root["first"], root["size"]) == ("range", ids.RANGE_FIRST, ids.RANGE_SIZE)
    # the highest id of the last slot is one that the kernel has and that means "nobody" to no program
    assert root["first"] + root["slots"] * root["size"] < 2**31


def test_user_code_never_has_an_id_of_the_host_but_in_one_mode() -> None:
    def host_id(rows: list[list[int]], inside: int) -> int:
        return next(host + inside - first for first, host, count in rows if first <= inside < first + count)

    assert host_id(ids.ids(ONE)["uid_map"], 1000) == 1001
    assert host_id(ids.ids(HELPER)["uid_map"], 1000) == 100999


def test_the_guest_has_capabilities_only_where_it_needs_them() -> None:
    assert made(ONE, SandboxSpec())["guest_caps"] == []
    assert made(HELPER, SandboxSpec())["guest_caps"] == plan.GUEST_CAPABILITIES
    dangerous = {2, 12, 13, 16, 17, 18, 19, 21, 22, 23, 24, 25, 27, 38, 39, 40}
    assert not dangerous & set(plan.GUEST_CAPABILITIES)


def test_limits_that_hold_everywhere_and_with_groups() -> None:
    assert plan.enforced_limits(ONE) == {"pids", "disk", "open_files"}
    assert plan.enforced_limits(ROOT) == {"pids", "disk", "open_files", "memory", "cpus"}
    plan.engine_state(ONE, "tag", "sb_1", SandboxSpec(limits=Limits(pids=5, disk_mib=5, open_files=64)))


def test_a_limit_that_was_asked_for_and_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(LimitUnenforceableError, match="cpus and memory") as caught:
        plan.engine_state(ONE, "tag", "sb_1", SandboxSpec(limits=Limits(memory_mib=64, cpus=1, pids=5)))
    assert caught.value.remedy


@pytest.mark.parametrize("isolation", ["vm", "gvisor", "container", "none"])
def test_other_isolation_is_refused(isolation: Any) -> None:
    with pytest.raises(UnavailableError):
        plan.engine_state(ROOT, "tag", "sb_1", SandboxSpec(isolation=isolation))


def test_other_users_need_other_ids() -> None:
    for user in ("root", "0", "nobody"):
        with pytest.raises(NeedsSubuidError) as caught:
            plan.engine_state(ONE, "tag", "sb_1", SandboxSpec(user=user))
        assert caught.value.remedy
        plan.engine_state(HELPER, "tag", "sb_1", SandboxSpec(user=user))
    plan.engine_state(ONE, "tag", "sb_1", SandboxSpec(user="1000"))


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/proc",
        "/proc/sys",
        "/dev/shm",
        "/usr/local",
        "/etc",
        "/.cloche/guest",
        "/bin",
        "/sys/fs",
        "//etc",
        "/./usr",
        "/data/../dev",
        "/etc/",
        "//",
    ],
)
def test_nothing_is_mounted_over_what_the_box_stands_on(target: str) -> None:
    with pytest.raises(InvalidError):
        plan.check_target(Mount(source="/data", target=target))


@pytest.mark.parametrize("target", ["/data", "/home/user/work", "/mnt", "/devices", "/usrlocal", "/opt/x"])
def test_mounts_elsewhere_are_fine(target: str) -> None:
    plan.check_target(Mount(source="/data", target=target))


def test_mounts_are_sorted_and_as_writable_as_asked() -> None:
    spec = SandboxSpec(mounts=[Mount(source="/b", target="/data/inner", mode="ro"), Mount(source="/a", target="/data")])
    asked = [bind for bind in made(ONE, spec)["binds"] if bind["target"].startswith("/data")]
    assert [(bind["source"], bind["target"], bind["read_only"]) for bind in asked] == [
        ("/a", "/data", False),
        ("/b", "/data/inner", True),
    ]


def test_everything_of_the_host_is_read_only_but_what_was_asked() -> None:
    spec = SandboxSpec(mounts=[Mount(source="/a", target="/data")])
    assert [bind["target"] for bind in made(ROOT, spec)["binds"] if not bind["read_only"]] == ["/data"]


def test_landlock_writes_nowhere_but_into_the_box() -> None:
    spec = SandboxSpec(mounts=[Mount(source="/a", target="/data"), Mount(source="/b", target="/fixed", mode="ro")])
    rules = made(ONE, spec)["landlock"]
    assert "/data" in rules["write"]
    for place in ("/", "/usr", "/proc", "/sys", "/dev", "/.cloche", "/fixed"):
        assert place not in rules["write"]
    assert rules["change"] == ["/proc"]


def test_proc_is_protected() -> None:
    whole = made(ONE, SandboxSpec())
    assert {"sys", "bus", "fs", "irq", "sysrq-trigger"} <= set(whole["proc_read_only"])
    assert {"kcore", "keys", "kmsg", "kallsyms", "timer_list", "sysvipc"} <= set(whole["proc_masked"])
    assert set(whole["devices"]) == {"null", "zero", "full", "random", "urandom", "tty"}


def test_names_and_deadlines() -> None:
    assert made(ONE, SandboxSpec())["hostname"] == "sb-1"
    assert made(ONE, SandboxSpec(name="build"))["hostname"] == "sb-1", "a name may come when the box is there already"
    assert made(ONE, SandboxSpec(name="build", hostname="h" * 100))["hostname"] == "h" * 63
    assert made(ONE, SandboxSpec())["deadline"] == 0
    assert made(ONE, SandboxSpec(), deadline=5.5)["deadline"] == 5.5


def test_sizes() -> None:
    limits = Limits(memory_mib=64, disk_mib=1).resolved()
    assert plan.sizes(limits) == {"disk_mib": 1, "inodes": plan.MIN_INODES, "shm_mib": 32}
    assert plan.sizes(Limits(disk_mib=1024).resolved())["inodes"] == 1024 * plan.INODES_PER_MIB


def test_the_guest_prepares_for_as_many_cpus_as_it_may_use() -> None:
    for cpus, prepared in ((0.1, "1"), (1.0, "1"), (1.5, "2"), (4.0, "4")):
        assert made(ROOT, SandboxSpec(limits=Limits(cpus=cpus)))["guest_env"]["GOMAXPROCS"] == prepared


def test_the_plan_is_json_and_fits_the_launchers_fields() -> None:
    text = (Path(__file__).parents[4] / "guest/internal/box/plan.go").read_text()
    whole = made(ROOT, SandboxSpec(mounts=[Mount(source="/a", target="/data")]))
    assert json.loads(json.dumps(whole)) == whole
    known = {part.split('"')[1] for part in text.split("`json:")[1:]}
    parts = [whole, whole["ids"], *whole["cgroups"], whole["freezer"], *whole["binds"], *whole["skeleton"]]
    assert {key for part in parts for key in part} <= known


def test_data_directories_have_different_tags() -> None:
    assert cgroups.home_tag("/a") != cgroups.home_tag("/b")
    assert cgroups.home_tag("/a") == cgroups.home_tag("/a")


def test_what_is_fixed_once_a_box_is_made() -> None:
    before = Limits().resolved()

    def fixed(facts: Facts, **limits: Any) -> list[str]:
        return plan.fixed_limits(facts, before, Limits(**limits).resolved())

    assert fixed(ROOT, memory_mib=64, cpus=0.1, pids=9, open_files=99) == []
    assert fixed(ONE, memory_mib=64, cpus=0.1, pids=9) == ["memory", "cpus"]
    assert fixed(ROOT, disk_mib=5) == ["disk"]
    # the hard limit that the guest was started with
    assert fixed(ROOT, pids=before.pids + plan.PIDS_HEADROOM) == []
    assert fixed(ROOT, pids=before.pids + plan.PIDS_HEADROOM + 1) == ["pids"]
