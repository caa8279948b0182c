"""Which sandboxes wait, for whom, and what is to be done next about them. No I/O: the filler does it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cloche.model.pool import PoolInfo, PoolPlan, meant
from cloche.model.sandbox import SandboxRecord

#: what a member is taken to use before the first of its pool was measured
ASSUMED_BYTES = 16 << 20
MAX_BACKOFF_SECONDS = 60.0


@dataclass(eq=False, slots=True)
class Member:
    """A sandbox that waits. `guard` waits for its guest's end."""

    record: SandboxRecord
    memory_bytes: int = ASSUMED_BYTES
    guard: asyncio.Task[None] | None = None


@dataclass(eq=False, slots=True)
class Shelf:
    """One pool. `failures`: attempts to make a member that failed in a row; `deaths`: members that ended by
    themselves since one was last given out."""

    plan: PoolPlan
    ready: deque[Member] = field(default_factory=deque)
    filling: int = 0
    hits: int = 0
    misses: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    error: str | None = None
    failures: int = 0
    deaths: int = 0
    not_before: float = 0.0

    @property
    def lacking(self) -> int:
        return self.plan.wanted - len(self.ready) - self.filling

    @property
    def memory_bytes(self) -> int:
        return sum(member.memory_bytes for member in self.ready)

    def expected_bytes(self) -> int:
        """What one more would use."""
        return max((member.memory_bytes for member in self.ready), default=ASSUMED_BYTES)

    def hit(self) -> None:
        self.hits += 1
        self.deaths = 0

    def made(self) -> None:
        self.failures, self.error = 0, None

    def failed(self, now: float, error: str) -> None:
        self.failures, self.error = self.failures + 1, error
        self._back_off(now)

    def died(self, now: float) -> None:
        self.ended += 1
        self.deaths += 1
        self._back_off(now)

    def _back_off(self, now: float) -> None:
        self.not_before = now + min(MAX_BACKOFF_SECONDS, 2.0 ** min(self.failures + self.deaths, 10) / 2)

    def info(self) -> PoolInfo:
        key = self.plan.key
        return PoolInfo(
            key=key.digest(), engine=key.engine, image=key.image, plain=self.plan.plain, templates=self.plan.templates,
            wanted=self.plan.wanted, ready=len(self.ready), filling=self.filling, memory_bytes=self.memory_bytes,
            hits=self.hits, misses=dict(self.misses), ended=self.ended, error=self.error,
        )  # fmt: skip


class Shelves:
    """All pools of a node, and the memory that they share."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._by_key: dict[str, Shelf] = {}
        self._retired: list[Member] = []

    def __iter__(self) -> Iterator[Shelf]:
        return iter(self._by_key.values())

    def __bool__(self) -> bool:
        return bool(self._by_key)

    def get(self, key: str) -> Shelf | None:
        return self._by_key.get(key)

    def meant_for(self, template: str | None) -> Shelf | None:
        """The pool that a create which names this template, or none, should find."""
        plan = meant((shelf.plan for shelf in self), template)
        return None if plan is None else self._by_key[plan.key.digest()]

    def replan(self, plans: Mapping[str, PoolPlan]) -> None:
        """What is wanted from now on. Pools that go on keep their members and counters."""
        for key in self._by_key.keys() - plans.keys():
            self._retired += self._by_key.pop(key).ready
        for key, plan in plans.items():
            shelf = self._by_key.setdefault(key, Shelf(plan))
            # a change is a reason to try again what has failed
            shelf.plan, shelf.not_before = plan, 0.0

    def put(self, member: Member) -> None:
        shelf = self._by_key.get(member.record.pool_key or "")
        if shelf is None:
            self._retired.append(member)
        else:
            shelf.ready.append(member)

    def drop(self, member: Member) -> Shelf | None:
        """Take away one that is still here, and tell where it was; None when it was given out."""
        shelf = self._by_key.get(member.record.pool_key or "")
        if shelf is None or member not in shelf.ready:
            return None
        shelf.ready.remove(member)
        return shelf

    def surplus(self) -> Member | None:
        """One that nobody wants any more, or for which there is no memory; it is no longer here."""
        if self._retired:
            return self._retired.pop()
        over = next((shelf for shelf in self if len(shelf.ready) > shelf.plan.wanted), None)
        if over is None and self.memory_bytes() > self.limit_bytes:
            over = max(self, key=lambda shelf: shelf.memory_bytes)
        return over.ready.pop() if over is not None and over.ready else None

    def lacking(self, now: float) -> Shelf | None:
        """The pool that is emptiest for its size, of those that may be filled now."""
        room = self.limit_bytes - self.memory_bytes()
        able = [shelf for shelf in self if shelf.lacking > 0 and shelf.not_before <= now]
        able = [shelf for shelf in able if shelf.expected_bytes() <= room]
        return max(able, key=lambda shelf: shelf.lacking / shelf.plan.wanted, default=None)

    def wake_at(self) -> float | None:
        """When a pool that has backed off may be filled again."""
        return min((shelf.not_before for shelf in self if shelf.lacking > 0 and shelf.not_before), default=None)

    def memory_bytes(self) -> int:
        return sum(shelf.memory_bytes for shelf in self)

    def everything(self) -> list[Member]:
        """All members, which are no longer here."""
        found = self._retired + [member for shelf in self for member in shelf.ready]
        self._retired = []
        for shelf in self:
            shelf.ready.clear()
        return found
