"""What waits, for whom, and what is done next about it: without sandboxes."""

import pytest

from cloche.model.limits import Limits
from cloche.model.pool import POOL_PROJECT, PoolPlan, difference, key_of, meant, merged
from cloche.model.sandbox import Mount, Sandbox, SandboxRecord, SandboxSpec
from cloche.model.template import WarmContext
from cloche.service.shelves import ASSUMED_BYTES, MAX_BACKOFF_SECONDS, Member, Shelf, Shelves

PLAIN = key_of("fake", SandboxSpec())


def plan(wanted=1, spec=None, templates=(), plain=False, contexts=()):
    spec = spec or SandboxSpec()
    return PoolPlan(
        key=key_of("fake", spec, contexts), spec=spec, wanted=wanted, templates=list(templates), plain=plain
    )


def member(key=PLAIN, memory_bytes=ASSUMED_BYTES):
    spec = SandboxSpec()
    sandbox = Sandbox(
        id="sb_x", project_id=POOL_PROJECT, name=None, state="running", reason=None, engine="fake", isolation="none",
        spec=spec, limits=spec.limits.resolved(), limits_unenforced=[], labels={}, created_at=1.0, started_at=1.0,
        expires_at=None, stopped_at=None,
    )  # fmt: skip
    record = SandboxRecord(sandbox=sandbox, engine_state={}, pool_key=key.digest())
    return Member(record, memory_bytes)


def shelves_of(*plans, limit_bytes=1 << 40):
    made = Shelves(limit_bytes)
    made.replan(merged(plans))
    return made


LATE = [
    {"name": "a"}, {"env": {"A": "1"}}, {"labels": {"a": "b"}}, {"ttl_seconds": 5}, {"idle_timeout_seconds": 5},
    {"user": "root"}, {"workdir": "/x"}, {"template": "t"},
    {"limits": Limits(memory_mib=64, cpus=0.5, pids=9, open_files=99)},
]  # fmt: skip
FIXED = [
    ("image", {"image": "x"}), ("mounts", {"mounts": [Mount(source="/a", target="/b")]}), ("hide", {"hide": ["/x"]}),
    ("host_paths", {"host_paths": ["/x"]}), ("hostname", {"hostname": "x"}), ("disk", {"limits": Limits(disk_mib=1)}),
]  # fmt: skip


@pytest.mark.parametrize("late", LATE, ids=lambda late: next(iter(late)))
def test_what_is_late_makes_no_other_key(late):
    assert key_of("fake", SandboxSpec(**late)).digest() == PLAIN.digest()


@pytest.mark.parametrize(("reason", "fixed"), FIXED)
def test_anything_else_does_and_is_the_reason_of_the_miss(reason, fixed):
    other = key_of("fake", SandboxSpec(**fixed))
    assert other.digest() != PLAIN.digest()
    assert difference(other, PLAIN) == reason
    assert difference(key_of("other", SandboxSpec()), PLAIN) == "engine"
    assert difference(PLAIN, PLAIN) is None


def test_the_order_of_lists_makes_no_other_key():
    mounts = [Mount(source="/a", target="/a"), Mount(source="/b\udcff", target="/b")]
    one, other = SandboxSpec(mounts=mounts, hide=["/a", "/b"]), SandboxSpec(mounts=mounts[::-1], hide=["/b", "/a"])
    assert key_of("fake", one).digest() == key_of("fake", other).digest()


def test_warm_contexts_have_seen_user_directory_and_environment():
    contexts = [WarmContext(code="import json")]
    warm = key_of("fake", SandboxSpec(env={"A": "1"}), contexts)
    assert difference(warm, PLAIN) == "contexts"
    for reason, spec, session_env in [
        ("user", SandboxSpec(env={"A": "1"}, user="root"), {}),
        ("workdir", SandboxSpec(env={"A": "1"}, workdir="/x"), {}),
        ("env", SandboxSpec(env={"A": "2"}), {}), ("env", SandboxSpec(env={"A": "1"}), {"SECRET": "x"}),
    ]:  # fmt: skip
        assert difference(key_of("fake", spec, contexts, session_env), warm) == reason
    assert difference(key_of("fake", SandboxSpec(env={"A": "1"}, name="b"), contexts), warm) is None


def test_pools_of_one_key_are_one_pool():
    plans = [plan(2, plain=True), plan(3, SandboxSpec(env={"A": "1"}), ["a"]), plan(1, SandboxSpec(hide=["/x"]), ["b"])]
    found = merged(plans)
    assert len(found) == 2
    assert (found[PLAIN.digest()].wanted, found[PLAIN.digest()].templates) == (5, ["a"])
    assert meant(found.values(), None) == meant(found.values(), "a") == found[PLAIN.digest()]
    assert meant(found.values(), "b").wanted == 1
    assert meant(found.values(), "c") is None
    assert meant([plan(1, templates=["a"])], None) is None


def test_the_emptiest_pool_is_filled_first():
    shelves = shelves_of(plan(4, plain=True), plan(2, SandboxSpec(hide=["/x"]), ["x"]))
    shelves.put(member())
    assert shelves.lacking(0).plan.templates == ["x"]
    shelves.put(member(key_of("fake", SandboxSpec(hide=["/x"]))))
    assert shelves.lacking(0).plan.plain
    shelves.lacking(0).filling = 3
    assert shelves.lacking(0).plan.templates == ["x"]


def test_memory_bounds_what_waits():
    shelves = shelves_of(plan(9, plain=True), limit_bytes=3 * ASSUMED_BYTES)
    for _ in range(2):
        assert shelves.lacking(0) is not None and shelves.surplus() is None
        shelves.put(member())
    assert shelves.lacking(0) is not None
    shelves.put(member(memory_bytes=ASSUMED_BYTES // 2))
    assert shelves.lacking(0) is None, "the next may use as much as the largest"
    assert shelves.surplus() is None
    grown = next(iter(shelves)).ready[0]
    grown.memory_bytes = 9 * ASSUMED_BYTES
    assert shelves.surplus() is not None


def test_nothing_waits_where_no_memory_may_be_used():
    assert shelves_of(plan(9, plain=True), limit_bytes=0).lacking(0) is None


def test_a_pool_that_shrinks_or_goes_gives_back_its_members():
    shelves = shelves_of(plan(2, plain=True))
    members = [member(), member()]
    for each in members:
        shelves.put(each)
    shelves.replan(merged([plan(1, plain=True)]))
    assert shelves.surplus() is members[1] and shelves.surplus() is None
    shelves.replan({})
    assert shelves.surplus() is members[0] and shelves.surplus() is None
    late = member()
    shelves.put(late)
    assert shelves.surplus() is late, "made for a pool that went meanwhile"
    assert not shelves


def test_counters_survive_a_change_of_size():
    shelves = shelves_of(plan(2, plain=True))
    shelf = next(iter(shelves))
    shelf.hit()
    shelf.misses["empty"] += 1
    shelves.replan(merged([plan(5, plain=True)]))
    info = next(iter(shelves)).info()
    assert (info.hits, info.misses, info.wanted) == (1, {"empty": 1}, 5)


def test_a_member_is_dropped_once():
    shelves = shelves_of(plan(2, plain=True))
    one = member()
    shelves.put(one)
    assert shelves.drop(one) is next(iter(shelves))
    assert shelves.drop(one) is None
    shelves.put(one)
    assert shelves.everything() == [one] and shelves.everything() == []


def test_failures_and_deaths_back_off_and_success_forgets():
    shelf = Shelf(plan(3))
    waits = []
    for _ in range(10):
        shelf.failed(100.0, "no")
        waits.append(shelf.not_before - 100.0)
    assert waits == sorted(waits) and waits[0] == 1.0 and waits[-1] == MAX_BACKOFF_SECONDS
    assert shelf.info().error == "no"
    shelf.made()
    assert shelf.info().error is None
    shelf.died(100.0)
    shelf.died(100.0)
    assert (shelf.not_before, shelf.info().ended) == (102.0, 2)
    shelf.hit()
    shelf.died(100.0)
    assert shelf.not_before == 101.0


def test_a_pool_that_backs_off_says_when_to_look_again():
    shelves = shelves_of(plan(3, plain=True))
    assert shelves.wake_at() is None
    next(iter(shelves)).failed(100.0, "no")
    assert shelves.lacking(100.5) is None and shelves.wake_at() == 101.0
    assert shelves.lacking(101.0) is not None
    shelves.replan(merged([plan(3, plain=True)]))
    assert shelves.lacking(100.0) is not None, "a change is a reason to try again"
