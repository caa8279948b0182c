"""A stream that can be watched while nothing is expected of it: is the other end still there, has it said something?"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from cloche.channel.base import ByteStream

#: read before anybody wants it, or before it is known what it is
AHEAD_BYTES = 16 << 10
#: of a body
MAX_PIECE_BYTES = 256 << 10


class Bounds(Protocol):
    """Of `hooks.Hooks`."""

    def hold(self, count: int) -> None: ...
    def piece_bytes(self) -> int: ...


class OwnBounds:
    """Those of one connection by itself, which nobody adds up."""

    def hold(self, count: int) -> None:
        pass

    def piece_bytes(self) -> int:
        return MAX_PIECE_BYTES


OWN_BOUNDS = OwnBounds()


class WatchedStream:
    """Reads ahead by at most one piece."""

    def __init__(self, stream: ByteStream, bounds: Bounds = OWN_BOUNDS) -> None:
        self._stream = stream
        self._piece_bytes = bounds.piece_bytes
        self._ahead: asyncio.Task[bytes] | None = None
        self.write = stream.write
        self.write_eof = stream.write_eof

    async def read(self) -> bytes:
        """Raises ConnectionError. May be cancelled: what comes meanwhile is kept for the next one."""
        data = await asyncio.shield(self.watch())
        self._ahead = None
        return data

    async def read_directly(self) -> bytes:
        """The quick way, for bodies; a cancellation may lose what has come."""
        return await (self._stream.read(self._piece_bytes()) if self._ahead is None else self.read())

    async def read_a_little(self) -> bytes:
        """As `read_directly`, of a head that may be followed by anything."""
        return await (self._stream.read(AHEAD_BYTES) if self._ahead is None else self.read())

    def watch(self) -> asyncio.Task[bytes]:
        """Done when the other end has said something (b"": that it has finished) or is gone."""
        if self._ahead is None:
            self._ahead = asyncio.ensure_future(self._stream.read(AHEAD_BYTES))
            self._ahead.add_done_callback(_looked_at)
        return self._ahead

    @property
    def stirred(self) -> bool:
        """It was watched, and is not quiet any more."""
        return self._ahead is not None and self._ahead.done()

    async def close(self) -> None:
        ahead, self._ahead = self._ahead, None
        with contextlib.suppress(ConnectionError, OSError):
            await self._stream.close()
        if ahead is not None:
            ahead.cancel()
            await asyncio.wait({ahead})
            # whatever it was, nobody wants to know any more
            ahead.cancelled() or ahead.exception()


def _looked_at(task: asyncio.Task[bytes]) -> None:
    """Who watched may have gone: an error of the other end is then nobody's."""
    if not task.cancelled():
        task.exception()
