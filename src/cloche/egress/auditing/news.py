"""What is told of a sandbox, and how often.

Code that tries the same for ever must not fill the log or keep the node busy: the same thing again within some seconds
is counted, not told."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol

from cloche.egress.budget import TokenBucket
from cloche.model.egress import AuditLine

SAME_SECONDS = 10.0
#: of one sandbox, and of all together
EVENTS_PER_SECOND = 20
EVENTS_OF_ALL_PER_SECOND = 200
MAX_KNOWN = 1024


class AuditSink(Protocol):
    def write(self, line: AuditLine) -> None: ...


class EventPace:
    """Of one sandbox, or of the whole door: who is over it is not told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, per_second: int = EVENTS_PER_SECOND) -> None:
        self._clock = clock
        self._bucket = TokenBucket(per_second, per_second, clock())

    def admits(self) -> bool:
        if self._bucket.available(self._clock()) < 1:
            return False
        self._bucket.take(1)
        return True


class SameAgain:
    """Whether a thing was told a moment ago. Of one sandbox, so that nobody crowds out another's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: OrderedDict[Hashable, float] = OrderedDict()

    def is_new(self, key: Hashable) -> bool:
        now = self._clock()
        told = self._told.get(key)
        if told is not None and now - told < SAME_SECONDS:
            return False
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > MAX_KNOWN:
            self._told.popitem(last=False)
        return True
