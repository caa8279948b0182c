"""Two streams as one connection: what comes from one goes to the other, until both have ended."""

from __future__ import annotations

import asyncio
import contextlib

from cloche.channel.base import ByteStream

READ_BYTES = 256 << 10
#: how long one direction may be quiet when the other has ended: who has gone altogether cannot be told from who has
#: only finished sending
HALF_CLOSED_SECONDS = 60.0


async def carry_both_ways(one: ByteStream, other: ByteStream) -> None:
    """Until both have finished. Raises what the first one raises that breaks (ConnectionError). Closes neither."""
    there, back = _Pump(one, other), _Pump(other, one)
    both = asyncio.gather(there.run(back), back.run(there))
    try:
        await both
    finally:
        both.cancel()
        await asyncio.gather(both, return_exceptions=True)


class _Pump:
    """One direction, which holds one piece at most. One that has much to carry may end before the other begins."""

    def __init__(self, source: ByteStream, target: ByteStream) -> None:
        self._source, self._target = source, target
        self._patience: asyncio.Timeout | None = None
        self._ended = False

    async def run(self, other: _Pump) -> None:
        with contextlib.suppress(TimeoutError):
            await self._carry(other)
        self._ended = True
        other.hurry()
        await self._target.write_eof()

    async def _carry(self, other: _Pump) -> None:
        try:
            async with asyncio.timeout(HALF_CLOSED_SECONDS if other._ended else None) as self._patience:
                while data := await self._source.read(READ_BYTES):
                    await self._target.write(data)
                    if other._ended:
                        self.hurry()
        finally:
            self._patience = None

    def hurry(self) -> None:
        """The other direction has ended: go on only while something moves."""
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time() + HALF_CLOSED_SECONDS)
