"""Timing: every contestant once a round, in a new order, so that what else the machine does hits all alike."""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

#: what is timed; when it returns a function, that is called afterwards and not timed
Action = Callable[[], object]


@dataclass
class Contestant:
    """`prepare` yields what is timed; it may raise Unavailable with the reason, and cleans up after itself.
    `goal_ms`: what the median should be at most, where there is such a goal."""

    name: str
    group: str
    prepare: Callable[[], contextlib.AbstractContextManager[Action]]
    every: int = 1
    goal_ms: float | None = None
    samples_ms: list[float] = field(default_factory=list)
    unavailable: str | None = None

    def row(self) -> dict[str, object]:
        head: dict[str, object] = {"group": self.group, "name": self.name}
        if self.unavailable or not self.samples_ms:
            return head | {"unavailable": self.unavailable or "no samples"}
        ordered = sorted(self.samples_ms)
        p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
        figures = {"median_ms": statistics.median(ordered), "p95_ms": p95, "min_ms": ordered[0]}
        rounded = {key: round(value, 3) for key, value in figures.items()}
        return head | rounded | {"n": len(ordered)} | ({"goal_ms": self.goal_ms} if self.goal_ms else {})


class Unavailable(Exception):
    """This contestant cannot take part on this machine; the text says why."""


class WrongResult(Exception):
    """A contestant was quick but did not do the work."""


def race(contestants: Sequence[Contestant], rounds: int, warmups: int = 3) -> None:
    """Fill `samples_ms` of each contestant; those that cannot take part get `unavailable`."""
    with contextlib.ExitStack() as stack:
        ready = list(_ready(stack, contestants, warmups))
        order = random.Random(1)
        for number in range(rounds):
            order.shuffle(ready)
            for contestant, action in ready:
                if number % contestant.every == 0:
                    contestant.samples_ms.append(_timed_ms(action))


def _ready(
    stack: contextlib.ExitStack, contestants: Sequence[Contestant], warmups: int
) -> Iterator[tuple[Contestant, Action]]:
    for contestant in contestants:
        try:
            action = stack.enter_context(contestant.prepare())
            for _ in range(warmups):
                _timed_ms(action)
        except Exception as error:  # whatever keeps one from taking part, the others go on
            contestant.unavailable = str(error)
        else:
            yield contestant, action


def _timed_ms(action: Action) -> float:
    begin = time.perf_counter_ns()
    settle = action()
    took = (time.perf_counter_ns() - begin) / 1e6
    if callable(settle):
        settle()
    return took


def command(argv: Sequence[str], env: dict[str, str] | None = None, exit_code: int = 0) -> Action:
    """Start, wait, check the exit code: posix_spawn, since subprocess would add its own millisecond."""
    quiet = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    environment = dict(os.environ if env is None else env)

    def run() -> None:
        pid = os.posix_spawnp(argv[0], list(argv), environment, file_actions=quiet)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != exit_code:
            raise WrongResult(f"{argv[0]} ended with {code}, not {exit_code}")

    return run
