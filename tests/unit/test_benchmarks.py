"""The race: everybody as often as promised, failures take no part, and what was prepared is undone."""

from __future__ import annotations

import contextlib

import pytest

from benchmarks.machine import facts
from benchmarks.measure import Contestant, Unavailable, WrongResult, command, race


def contestant(name, action, *, log=None, **options):
    @contextlib.contextmanager
    def prepare():
        yield action
        if log is not None:
            log.append(name)

    return Contestant(name, "group", prepare, **options)


def test_slow_ones_run_less_often_and_all_are_undone():
    undone: list[str] = []
    quick = contestant("quick", lambda: None, log=undone)
    slow = contestant("slow", lambda: None, log=undone, every=4)
    race([quick, slow], rounds=8, warmups=0)
    assert (len(quick.samples_ms), len(slow.samples_ms)) == (8, 2)
    assert sorted(undone) == ["quick", "slow"]
    assert quick.row()["n"] == 8


def test_one_that_cannot_take_part_says_why_and_stops_nobody():
    @contextlib.contextmanager
    def absent():
        raise Unavailable("not installed")
        yield

    other = contestant("other", lambda: None)
    missing = Contestant("missing", "group", absent)
    race([missing, other], rounds=2, warmups=1)
    assert missing.row() == {"group": "group", "name": "missing", "unavailable": "not installed"}
    assert len(other.samples_ms) == 2


def test_a_failure_is_not_a_quick_success():
    with pytest.raises(WrongResult, match="ended with 1"):
        command(["false"])()
    command(["false"], exit_code=1)()


def test_the_facts_that_a_figure_needs():
    assert {"cpu", "cpus", "kernel", "memory_mib", "user", "cgroup"} <= set(facts())
