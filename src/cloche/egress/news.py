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
EVENTS_PER_SECOND = 20
MAX_KNOWN = 1024
#: lines of one sandbox: a second on the average, and at once
LINES_PER_SECOND = 200
LINES_AT_ONCE = 2000


class AuditSink(Protocol):
    def write(self, line: AuditLine) -> None: ...


class EventPace:
    """Of the whole door: who is over it is not told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bucket = TokenBucket(EVENTS_PER_SECOND, EVENTS_PER_SECOND, clock())

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
    """The audit lines of one sandbox. What was allowed has a line for each; of what was not, the same within
    SAME_SECONDS is one line, and a second one that says how often it came again."""

    def __init__(self, sink: AuditSink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._same: OrderedDict[Hashable, _Again] = OrderedDict()
        self._pace = TokenBucket(LINES_PER_SECOND, LINES_AT_ONCE, self._loop.time())

    def write(self, line: AuditLine) -> None:
        if line.verdict in ("allowed", "revoked") and self._admits():
            self._sink.write(line)
            return
        key = (line.via, line.verdict, line.host, line.port, line.rule, line.reason, line.method, line.path)
        again = self._same.get(key)
        if again is not None:
            again.last, again.count = line, again.count + 1
        elif self._admits():
            self._sink.write(line)
            self._begin(key)
        else:
            self._crowded(line)

    def close(self) -> None:
        for key in list(self._same):
            self._end(key)

    def _admits(self) -> bool:
        if self._pace.available(self._loop.time()) < 1:
            return False
        self._pace.take(1)
        return True

    def _crowded(self, line: AuditLine) -> None:
        """Too many different ones: they share one."""
        key = ("crowded", line.verdict)
        again = self._same.get(key) or self._begin(key)
        again.last, again.count = line, again.count + 1

    def _begin(self, key: Hashable) -> _Again:
        again = self._same[key] = _Again(self._loop.call_later(SAME_SECONDS, self._end, key))
        if len(self._same) > MAX_KNOWN:
            self._end(next(iter(self._same)))
        return again

    def _end(self, key: Hashable) -> None:
        again = self._same.pop(key, None)
        if again is None:
            return
        again.timer.cancel()
        if again.last is not None:
            self._sink.write(msgspec.structs.replace(again.last, repeated=again.count - 1))


class _Again:
    __slots__ = ("count", "last", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.last: AuditLine | None = None
        self.count = 0
