"""What is told of a sandbox and how often: lines of the audit, events, counters.

Code that tries the same for ever must not fill the log or keep the node busy: the same thing again within some seconds
is counted, not told."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol

import msgspec

from cloche.egress.budget import TokenBucket
from cloche.model.egress import AuditLine

SAME_SECONDS = 10.0
#: of one sandbox, and of all together
EVENTS_PER_SECOND = 20
EVENTS_OF_ALL_PER_SECOND = 200
MAX_KNOWN = 1024
#: lines of one sandbox: a second on the average, and at once; a long one counts as several
LINES_PER_SECOND = 200
LINES_AT_ONCE = 2000
_SHORT_CHARS = 256


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


class Lines:
    """The audit lines of one sandbox, at most so many in a second, so that nobody fills the log and turns it over. Of
    those above, the last of some seconds is written, and says how many it stands for."""

    def __init__(self, sink: AuditSink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._pace = TokenBucket(LINES_PER_SECOND, LINES_AT_ONCE, self._loop.time())
        self._last: AuditLine | None = None
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: AuditLine) -> None:
        if self._pace.available(self._loop.time()) >= 1:
            self._pace.take(1 + (len(line.path) + len(line.reason)) // _SHORT_CHARS)
            self._sink.write(line)
            return
        self._last, self._count = line, self._count + 1
        if self._timer is None:
            self._timer = self._loop.call_later(SAME_SECONDS, self.close)

    def close(self) -> None:
        """Write what is still to be said."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._last is not None:
            self._sink.write(msgspec.structs.replace(self._last, repeated=self._count - 1))
        self._last, self._count = None, 0
