"""What waits ready, as `cloche ls --pool` shows it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cloche.cli import render
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
    return 0


def _row(pool: PoolInfo) -> Sequence[object]:
    names = [*(["(plain)"] if pool.plain else []), *pool.templates]
    misses = (f"{reason}={count}" for reason, count in sorted(pool.misses.items()))
    return (
        ",".join(names),
        pool.image,
        pool.engine,
        f"{pool.ready}/{pool.wanted}",
        pool.filling,
        f"{pool.memory_bytes / (1 << 20):.1f} MiB",
        pool.hits,
        ",".join(misses),
        pool.error,
    )
