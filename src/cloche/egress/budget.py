"""How much one sandbox may move, and how fast: pure, with the time given from outside.

One budget stands for all connections of a sandbox. `room` says how many bytes may move now, `took` writes them down."""

from __future__ import annotations

import time
from collections.abc import Callable

from cloche.egress.hooks import LimitHit
from cloche.model.egress import EgressBudget, EgressCounters

#: open at once, whatever the policy says: each costs the door descriptors
MAX_CONNECTIONS = 2048
#: a bucket holds the bytes of so many seconds, and never less than one packet
_BURST_SECONDS = 0.25
_MIN_BURST_BYTES = 16 << 10
_WORTHWHILE_BYTES = 8 << 10
_WINDOW_SECONDS = 60.0
#: of bodies, of all connections of a sandbox together; what one of them may have of it
_PIECES_BYTES = 64 << 20
_MIN_PIECE_BYTES, _MAX_PIECE_BYTES = 16 << 10, 256 << 10


class TokenBucket:
    """`rate` tokens a second, at most `burst` at once."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def available(self, now: float) -> float:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return self._tokens

    def take(self, count: float) -> None:
        """May go below zero: what was taken already is paid for by waiting."""
        self._tokens -= count

    def delay(self, wanted: float) -> float:
        """Seconds until `wanted` tokens (or a full bucket) are there."""
        return max(0.0, (min(wanted, self._burst) - self._tokens) / self._rate)


class _MinuteWindow:
    """How many in the last minute, of two counters: the minute before counts as much as it still overlaps."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._before = 0
        self._count = 0

    def add_unless(self, limit: int, now: float) -> bool:
        """Whether one more is within the limit, which then counts."""
        passed = now - self._began
        if passed >= _WINDOW_SECONDS:
            self._before = self._count if passed < 2 * _WINDOW_SECONDS else 0
            self._count = 0
            self._began += passed - passed % _WINDOW_SECONDS
            passed %= _WINDOW_SECONDS
        if self._count + self._before * (1 - passed / _WINDOW_SECONDS) + 1 > limit:
            return False
        self._count += 1
        return True


class Budget:
    """The bytes count over the sandbox's life, so they begin where its counters are."""

    def __init__(
        self,
        limits: EgressBudget,
        counted: EgressCounters,
        clock: Callable[[], float] = time.monotonic,
        most_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.sent = counted.sent_bytes
        self.received = counted.received_bytes
        self.open = 0
        self._clock = clock
        self._most_connections = most_connections
        self._minute = _MinuteWindow(clock())
        self._bucket: TokenBucket | None = None
        self._limits = limits
        self.limit(limits)

    def limit(self, limits: EgressBudget) -> None:
        """From now on these, for what is open too."""
        self._limits = limits
        rate = limits.bytes_per_second
        burst = 0.0 if rate is None else max(_MIN_BURST_BYTES, rate * _BURST_SECONDS)
        self._bucket = None if rate is None else TokenBucket(max(rate, 1), burst, self._clock())

    def connect(self) -> None:
        """One connection begins; `disconnect` ends it. Raises LimitHit, and then nothing has begun."""
        allowed = self._limits.connections
        most = self._most_connections if allowed is None else min(allowed, self._most_connections)
        if self.open >= most:
            raise LimitHit("connections", f"{most} connections are open at once already")
        per_minute = self._limits.connections_per_minute
        if per_minute is not None and not self._minute.add_unless(per_minute, self._clock()):
            raise LimitHit("connections_per_minute", f"more than {per_minute} connections in a minute")
        self.open += 1

    def disconnect(self) -> None:
        self.open -= 1

    def piece_bytes(self) -> int:
        """How much of a body may wait to be carried on, of each connection in each direction."""
        return max(_MIN_PIECE_BYTES, min(_MAX_PIECE_BYTES, _PIECES_BYTES // max(1, 2 * self.open)))

    def check(self) -> None:
        """Raises LimitHit when the bytes of one direction are used up."""
        self._left(sending=True)
        self._left(sending=False)

    def room(self, wanted: int, *, sending: bool) -> int:
        """How many of `wanted` bytes may move now; 0: wait for `delay`. Raises LimitHit when none ever will."""
        left = self._left(sending=sending)
        if left is not None:
            wanted = min(wanted, left)
        if self._bucket is None:
            return wanted
        available = int(self._bucket.available(self._clock()))
        # a few bytes at a time would cost a whole processor
        return min(wanted, available) if available >= _WORTHWHILE_BYTES else 0

    def took(self, count: int, *, sending: bool) -> None:
        if sending:
            self.sent += count
        else:
            self.received += count
        if self._bucket is not None:
            self._bucket.take(count)

    def spend(self, count: int, *, sending: bool) -> None:
        """All of it or nothing. Raises LimitHit; `debt` says how long to wait then."""
        left = self._left(sending=sending)
        if left is not None and count > left:
            raise self._used_up(sending=sending)
        self.took(count, sending=sending)

    def debt(self) -> float:
        """Seconds until what was taken is paid for."""
        if self._bucket is None:
            return 0.0
        self._bucket.available(self._clock())
        return self._bucket.delay(0.0)

    def delay(self) -> float:
        """Seconds after which it is worth to ask for room again."""
        return 0.0 if self._bucket is None else max(0.005, self._bucket.delay(_WORTHWHILE_BYTES) + 0.001)

    def _left(self, *, sending: bool) -> int | None:
        limit = self._limits.bytes_out if sending else self._limits.bytes_in
        if limit is None:
            return None
        left = limit - (self.sent if sending else self.received)
        if left <= 0:
            raise self._used_up(sending=sending)
        return left

    def _used_up(self, *, sending: bool) -> LimitHit:
        if sending:
            return LimitHit("bytes_out", f"the {self._limits.bytes_out} bytes that it may send are used up")
        return LimitHit("bytes_in", f"the {self._limits.bytes_in} bytes that it may receive are used up")
