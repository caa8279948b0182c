"""Who may look names up now: few lookups run at once, and one sandbox never has all of them.

The machine's resolver runs in threads, and one that waits for a name server that never answers cannot be ended. So a
turn lasts as long as its thread, whatever became of who asked; a sandbox has so many turns, and the last ones are kept
for sandboxes that have none."""

from __future__ import annotations

import asyncio
from collections import Counter, deque

#: at once, of all sandboxes
MAX_TURNS = 64
#: of these, for sandboxes that have none yet
KEPT_TURNS = 16
#: of one sandbox
MAX_OF_ONE = 8


class Turns:
    """`owner` is a sandbox's id; "" is the door's own."""

    def __init__(self, most: int = MAX_TURNS, kept: int = KEPT_TURNS, of_one: int = MAX_OF_ONE) -> None:
        self._most, self._kept, self._of_one = most, kept, of_one
        self._taken: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def taken(self) -> int:
        return self._taken.total()

    def has_all(self, owner: str) -> bool:
        """That one sandbox may have."""
        return self._taken[owner] >= self._of_one

    async def take(self, owner: str) -> None:
        """Waits for a turn; who stops waiting has none."""
        if self._may_begin(owner) and owner not in self._waiting:
            self._taken[owner] += 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give_back(owner)
            else:
                self._stop_waiting(owner, future)
            raise

    def give_back(self, owner: str) -> None:
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]
        while (following := self._next()) is not None:
            self._taken[following] += 1
            future = self._waiting[following][0]
            self._stop_waiting(following, future)
            future.set_result(None)

    def _next(self) -> str | None:
        """The one with the fewest turns; of equals, who has waited longest."""
        able = [owner for owner in self._waiting if self._may_begin(owner)]
        return min(able, key=self._taken.__getitem__, default=None)

    def _may_begin(self, owner: str) -> bool:
        own, left = self._taken[owner], self._most - self._taken.total()
        return left > (self._kept if own else 0) and own < self._of_one

    def _stop_waiting(self, owner: str, future: asyncio.Future[None]) -> None:
        waiting = self._waiting[owner]
        waiting.remove(future)
        if waiting:
            # its next one is behind everybody else
            self._waiting[owner] = self._waiting.pop(owner)
        else:
            del self._waiting[owner]
