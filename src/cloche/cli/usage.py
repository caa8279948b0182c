"""From one look at the sandboxes to the next: what each used in between, and what it used before.

All but `two_looks` is pure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cloche.cli import render
from cloche.model.events import SandboxStats
from cloche.sdk._sync.node import Node
from cloche.sdk.values import NodeUse, SandboxInfo

KEPT = 120
#: looks that are closer together say nothing of CPU use
SHORTEST_SECONDS = 0.05
#: between the two looks that a single table needs
FIRST_SECONDS = 0.25
MAX_LABEL = 200


@dataclass(slots=True)
class Track:
    """One sandbox over time. `cpu_percent`: of one CPU since the look before; None: not known.
    `short`: the beginning of its id that no other has."""

    sandbox: SandboxInfo
    stats: SandboxStats
    short: str = ""
    cpu_percent: float | None = None
    cpu: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    memory: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))

    def take(self, sandbox: SandboxInfo, stats: SandboxStats) -> None:
        passed = stats.time - self.stats.time
        if 0 <= passed < SHORTEST_SECONDS:
            self.sandbox = sandbox
            return
        self.cpu_percent = cpu_percent(self.stats, stats)
        self.sandbox, self.stats = sandbox, stats
        self.cpu.append(self.cpu_percent)
        self.memory.append(stats.memory_bytes)

    @property
    def id(self) -> str:
        return self.sandbox.id

    @property
    def label(self) -> str:
        """Its name, harmless, or the beginning of its id."""
        return render.clean((self.sandbox.name or self.short or self.sandbox.id)[:MAX_LABEL])

    @property
    def memory_share(self) -> float | None:
        used, limit = self.stats.memory_bytes, self.stats.memory_limit_bytes
        return None if used is None or not limit else used / limit


class History:
    """All sandboxes that live, oldest first."""

    def __init__(self) -> None:
        self.tracks: dict[str, Track] = {}
        self.time = 0.0

    def take(self, use: NodeUse) -> list[Track]:
        """Those that are gone are forgotten."""
        self.time = use.time
        self.tracks = {each.sandbox.id: self._track(each.sandbox, each.stats) for each in use.sandboxes}
        for sandbox_id, short in short_ids(list(self.tracks)).items():
            self.tracks[sandbox_id].short = short
        return list(self.tracks.values())

    def _track(self, sandbox: SandboxInfo, stats: SandboxStats) -> Track:
        track = self.tracks.get(sandbox.id)
        if track is None:
            return Track(sandbox, stats, memory=deque([stats.memory_bytes], maxlen=KEPT))
        track.take(sandbox, stats)
        return track


def cpu_percent(before: SandboxStats, now: SandboxStats) -> float | None:
    """None when it was started anew in between, or when one of the looks could not tell."""
    if before.cpu_seconds is None or now.cpu_seconds is None:
        return None
    passed, used = now.time - before.time, now.cpu_seconds - before.cpu_seconds
    return None if passed < SHORTEST_SECONDS or used < 0 else 100 * used / passed


def egress(stats: SandboxStats) -> str:
    """What went out and came in, or that nothing can."""
    if stats.sent_bytes is None and stats.received_bytes is None:
        return "closed"
    return f"{render.size(stats.sent_bytes)}/{render.size(stats.received_bytes)}"


def short_ids(ids: list[str], least: int = 10) -> dict[str, str]:
    """Id → the shortest beginning, of one length for all, that no other of them has."""
    most = max((len(each) for each in ids), default=0)
    length = next((n for n in range(least, most) if len({each[:n] for each in ids}) == len(set(ids))), most)
    return {each: each[:length] for each in ids}


def two_looks(node: Node) -> list[Track]:
    """What is used now, with the CPU use of the moment in between."""
    history = History()
    history.take(node.stats())
    time.sleep(FIRST_SECONDS)
    return history.take(node.stats())


def as_json(tracks: Iterable[Track]) -> dict[str, Any]:
    """Exact numbers, `cpu_percent` of one CPU."""
    return {
        "sandboxes": [
            {
                "id": track.id, "name": track.sandbox.name, "state": track.sandbox.state,
                "created_at": track.sandbox.created_at, "cpu_percent": _rounded(track.cpu_percent),
                **msgspec.structs.asdict(track.stats),
            }
            for track in tracks
        ]
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
