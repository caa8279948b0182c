"""What waits ready, as `cloche ls --pool` shows it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cloche.cli import render
from cloche.cli.failure import say
from cloche.model.pool import PoolInfo
from cloche.sdk._sync.node import Node

_HEADINGS = ("TEMPLATE", "IMAGE", "ENGINE", "READY", "FILLING", "MEMORY", "HITS", "MISSES", "ERROR")


def show(as_json: bool) -> int:
    """Pool by pool, with the counters since the node started."""
    report = Node().pool()
    if as_json:
        render.print_json(msgspec.to_builtins(report))
    else:
        render.print_table(_HEADINGS, [_row(pool) for pool in report.pools])
        if any(_is_held_up(pool) for pool in report.pools):
            say(
                f"cloche: fewer wait than are wanted; all that wait may use {_mib(report.memory_limit_bytes)} of memory"
            )
            say("  try: a larger CLOCHE_POOL_MEMORY_MIB, then: cloche node stop")
    return 0


def _is_held_up(pool: PoolInfo) -> bool:
    """Nothing is wrong with it and nothing is being made: what is missing has no room."""
    return pool.ready < pool.wanted and not pool.filling and not pool.error


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def _row(pool: PoolInfo) -> Sequence[object]:
    names = [*(["(plain)"] if pool.plain else []), *pool.templates]
    misses = (f"{reason}={count}" for reason, count in sorted(pool.misses.items()))
    return (
        ",".join(names),
        pool.image,
        pool.engine,
        f"{pool.ready}/{pool.wanted}",
        pool.filling,
        _mib(pool.memory_bytes),
        pool.hits,
        ",".join(misses),
        pool.error,
    )
