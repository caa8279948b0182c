"""TLS handshakes that the door ends: how many of one sandbox go on at once, and how fast it may have new names.

A handshake that stands still costs memory, and a name that was not met yet a certificate: two milliseconds of the one
processor that carries everybody's connections."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from cloche.egress.budget import TokenBucket
from cloche.egress.hooks import LimitHit

#: of one sandbox, at once
MAX_HANDSHAKES = 64
#: certificates for one sandbox: in a second, and at first
NEW_NAMES_PER_SECOND = 20.0
NEW_NAMES_AT_ONCE = 64
#: who would have to wait for longer is refused
LONGEST_WAIT_SECONDS = 10.0


class Handshakes:
    """Of one sandbox."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slots = asyncio.Semaphore(MAX_HANDSHAKES)
        self._new_names = TokenBucket(NEW_NAMES_PER_SECOND, NEW_NAMES_AT_ONCE, self._clock())

    @contextlib.asynccontextmanager
    async def one(self, is_new_name: Callable[[], bool]) -> AsyncIterator[None]:
        """While it goes on. `is_new_name`: asked when it begins, as many may begin with the same name. Raises LimitHit
        when its turn does not come in time."""
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                await self._slots.acquire()
        except TimeoutError as error:
            raise LimitHit("handshakes", f"{MAX_HANDSHAKES} TLS handshakes of this sandbox go on already") from error
        try:
            if is_new_name():
                await self._pay()
            yield
        finally:
            self._slots.release()

    async def _pay(self) -> None:
        self._new_names.available(self._clock())
        wait = self._new_names.delay(1)
        if wait > LONGEST_WAIT_SECONDS:
            raise LimitHit("certificates", f"more than {NEW_NAMES_PER_SECOND:.0f} new names a second under TLS")
        # taken before the wait: who comes now waits for longer
        self._new_names.take(1)
        if wait > 0:
            await asyncio.sleep(wait)
