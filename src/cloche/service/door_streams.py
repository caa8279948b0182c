"""Streams to guests that only the node can reach (a machine's multiplexer), handed to the door as sockets.

Each is pumped in both directions between a stream of the guest's channel and one end of a socket pair."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from typing import TYPE_CHECKING

from cloche.channel.base import ByteStream
from cloche.channel.carrying import carry_both_ways
from cloche.channel.unix import UnixStream
from cloche.model.errors import ClocheError, LimitHitError, NotFoundError

if TYPE_CHECKING:
    from cloche.service.core import Core

#: the door parks at most 256 of them and uses as many as a sandbox has connections
MAX_STREAMS = 2048
OPEN_SECONDS = 15.0
#: so little may wait in the pair itself: it is the guest that has to wait
BUFFER_BYTES = 256 << 10


class DoorStreams:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._pumps: set[asyncio.Task[None]] = set()
        self._count: Counter[str] = Counter()

    async def open(self, sandbox_id: str) -> socket.socket:
        """A socket that leads to the guest's HTTP server; the caller owns it. Raises NotFoundError, LimitHitError,
        SandboxDeadError, TimeoutError."""
        record = await self._core.store.get(sandbox_id)
        if record is None or not self._core.door.is_open(sandbox_id):
            raise NotFoundError(f"sandbox {sandbox_id} is not attached")
        if self._count[sandbox_id] >= MAX_STREAMS:
            raise LimitHitError("too many connections through the door at once", limit="door_streams")
        self._count[sandbox_id] += 1
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                inside = await (await self._core.guests.channel(record)).open()
        except BaseException:
            self._ended(sandbox_id)
            raise
        return self._joined(sandbox_id, inside)

    async def close(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def _joined(self, sandbox_id: str, inside: ByteStream) -> socket.socket:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        pump = asyncio.ensure_future(join(UnixStream(ours), inside))
        self._pumps.add(pump)

        def over(task: asyncio.Task[None]) -> None:
            self._pumps.discard(task)
            self._ended(sandbox_id)

        pump.add_done_callback(over)
        return theirs

    def _ended(self, sandbox_id: str) -> None:
        self._count[sandbox_id] -= 1
        if not self._count[sandbox_id]:
            del self._count[sandbox_id]


async def join(one: ByteStream, other: ByteStream) -> None:
    """Carry bytes both ways until both have finished, or one breaks; then both are closed."""
    try:
        with contextlib.suppress(OSError, ClocheError):
            await carry_both_ways(one, other)
    finally:
        for stream in (one, other):
            with contextlib.suppress(Exception):
                await stream.close()
