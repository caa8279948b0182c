"""How much of one sandbox may wait in the door at once: pure.

Beginnings of requests and of TLS hellos wait until they say enough to be decided, and some bodies until they are whole.
Each is small and there may be thousands, so all of a sandbox together have a bound, too."""

from __future__ import annotations

from cloche.egress.hooks import LimitHit

#: of one sandbox
MAX_HELD_BYTES = 8 << 20


class Held:
    """Of one sandbox. `most` is the highest that `bytes` has been."""

    def __init__(self, limit: int = MAX_HELD_BYTES) -> None:
        self.limit = limit
        self.bytes = 0
        self.most = 0

    def has_room(self, count: int) -> bool:
        return self.bytes + count <= self.limit

    def add(self, count: int) -> None:
        """Raises LimitHit; then nothing was added. Below zero: it waits no more."""
        if count > 0 and not self.has_room(count):
            raise LimitHit("held_bytes", f"{self.limit >> 20} MiB of what this sandbox has begun to say wait already")
        self.bytes += count
        self.most = max(self.most, self.bytes)


class Share:
    """Of one connection."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self.bytes = 0

    def hold(self, count: int) -> None:
        """So many bytes of this connection wait now. Raises LimitHit, and then as many wait as before."""
        self._held.add(count - self.bytes)
        self.bytes = count

    def release(self) -> None:
        self.hold(0)
