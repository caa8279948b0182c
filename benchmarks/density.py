"""What idle sandboxes cost: hundreds at once, their memory as processes and as the machine sees it, and their CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.figures import Figure, Study
from benchmarks.processes import cpu_seconds, descendants, memory_available_kib, pss_kib, switches

GROUP = "idle sandboxes"
WATCHED_SECONDS = 10.0
GOAL_MIB = 6.0


def study(count: int) -> Study:
    return Study(GROUP, lambda: _figures(count))


def _figures(count: int) -> Iterator[Figure]:
    from cloche import Node, Sandbox

    with Sandbox.create() as first:
        first.exec("true")
    node = int(Node().health()["pid"])
    own = set(descendants(node))
    available = memory_available_kib()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Sandbox.create(), range(count)))
        try:
            # one that was never used has not paid for anything yet
            list(pool.map(lambda sandbox: sandbox.exec("true"), made))
            yield from _idle(count, available, lambda: [pid for pid in supervisors_and_below() if pid not in own])
        finally:
            list(pool.map(lambda sandbox: sandbox.remove(), made))


def supervisors_and_below() -> list[int]:
    """Every process of the sandboxes: supervisors are children of the node or, after its death, of init."""
    from cloche import Node

    return descendants(int(Node().health()["pid"]))


def _idle(count: int, available: int, pids_now: Callable[[], list[int]]) -> Iterator[Figure]:
    _settle(pids_now())
    pids = pids_now()
    yield Figure(GROUP, "at once", count, "sandboxes")
    yield Figure(GROUP, "processes of each", len(pids) / count, "")
    yield Figure(GROUP, "PSS of each", sum(map(pss_kib, pids)) / count / 1024, "MiB")
    taken = available - memory_available_kib()
    yield Figure(GROUP, "all-in of each (what the machine has less)", taken / count / 1024, "MiB", GOAL_MIB)
    before = (sum(map(cpu_seconds, pids)), sum(map(switches, pids)))
    time.sleep(WATCHED_SECONDS)
    spent = sum(map(cpu_seconds, pids)) - before[0]
    woken = sum(map(switches, pids)) - before[1]
    yield Figure(GROUP, f"CPU of all in {WATCHED_SECONDS:.0f} s", spent, "s", 0.1)
    yield Figure(GROUP, "wake-ups of each in a second", woken / count / WATCHED_SECONDS, "")


def _settle(pids: list[int]) -> None:
    """Wait until they have finished what they do after a start, at most 30 s."""
    deadline = time.monotonic() + 30
    last = -1.0
    while time.monotonic() < deadline and (spent := sum(map(cpu_seconds, pids))) != last:
        last = spent
        time.sleep(6)
