"""How many sandboxes a second: eight clients, each its own program, making, using and removing one after the other."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue

from benchmarks.figures import Figure, Study
from benchmarks.measure import WrongResult
from benchmarks.processes import cpu_seconds

GROUP = "eight clients"
CLIENTS = 8
SECONDS = 8.0
GOAL_PER_SECOND = 100.0


def study() -> Study:
    return Study(GROUP, _figures)


def _figures() -> Iterator[Figure]:
    from cloche import Node

    node = int(Node().health()["pid"])
    before = cpu_seconds(node)
    samples = _run()
    spent = cpu_seconds(node) - before
    ordered = sorted(samples)
    yield Figure(GROUP, "create, exec true, remove", len(samples) / SECONDS, "/s", GOAL_PER_SECOND, more_is_better=True)
    yield Figure(GROUP, "median of one", statistics.median(ordered), "ms")
    yield Figure(GROUP, "95th percentile of one", ordered[round(0.95 * (len(ordered) - 1))], "ms")
    yield Figure(GROUP, "the node's CPU time for one", spent * 1000 / len(samples), "ms")


def _run() -> list[float]:
    # spawned, not forked: each has connections of its own from the beginning
    context = multiprocessing.get_context("spawn")
    results: Queue[list[float]] = context.Queue()
    start = context.Barrier(CLIENTS)
    clients = [context.Process(target=_client, args=(start, results)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    samples = [results.get(timeout=SECONDS + 60) for _ in clients]
    for client in clients:
        client.join()
    if not all(samples):
        raise WrongResult("a client finished nothing")
    return [sample for each in samples for sample in each]


def _client(start: object, results: Queue[list[float]]) -> None:
    from cloche import Sandbox

    taken: list[float] = []
    try:
        start.wait(timeout=60)  # type: ignore[attr-defined]
        end = time.perf_counter() + SECONDS
        while (begin := time.perf_counter()) < end:
            with Sandbox.create() as sandbox:
                if sandbox.exec("true").exit_code != 0:
                    raise WrongResult("true failed")
            taken.append((time.perf_counter() - begin) * 1000)
    finally:
        results.put(taken)
