"""Duplex byte streams in memory, with the backpressure and the half-close of a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloche.model.errors import SandboxDeadError

BUFFER_BYTES = 64 << 10


class Pipe:
    """One direction: a bounded buffer with a writing and a reading end."""

    def __init__(self, capacity: int = BUFFER_BYTES) -> None:
        self._capacity = capacity
        self._buffer = bytearray()
        self._changed = asyncio.Event()
        self.ended = False
        self.broken = False

    async def read(self, max_bytes: int) -> bytes:
        while not self._buffer and not self.ended and not self.broken:
            await self._change()
        if self.broken:
            raise ConnectionResetError("the stream is closed")
        data = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        self._notify()
        return data

    async def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            while len(self._buffer) >= self._capacity and not self.ended:
                await self._change()
            if self.ended:
                raise BrokenPipeError("nobody reads this stream any more")
            room = self._capacity - len(self._buffer)
            self._buffer += left[:room]
            left = left[room:]
            self._notify()

    def kept(self) -> bytes:
        """What was written and not read yet."""
        return bytes(self._buffer)

    def fill(self, data: bytes, ended: bool) -> None:
        """Begin with what another had kept."""
        self._buffer, self.ended = bytearray(data), ended

    def end(self) -> None:
        self.ended = True
        self._notify()

    def break_off(self) -> None:
        """The reading end is gone: whoever reads or writes is told."""
        self.broken = self.ended = True
        self._notify()

    @property
    def readable(self) -> bool:
        return bool(self._buffer) or self.ended or self.broken

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()


class MemoryStream:
    """One end of a duplex stream."""

    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def read(self, max_bytes: int) -> bytes:
        return await self._incoming.read(max_bytes)

    async def write(self, data: bytes) -> None:
        await self._outgoing.write(data)

    async def write_eof(self) -> None:
        self._outgoing.end()

    async def close(self) -> None:
        self.close_now()

    def close_now(self) -> None:
        # The other end reads what was sent before and then the end, as with a socket; its writes fail.
        self._outgoing.end()
        self._incoming.break_off()

    def readable(self) -> bool:
        return self._incoming.readable

    @property
    def closed(self) -> bool:
        """By this end."""
        return self._incoming.broken


def pair(capacity: int = BUFFER_BYTES) -> tuple[MemoryStream, MemoryStream]:
    one, other = Pipe(capacity), Pipe(capacity)
    return MemoryStream(one, other), MemoryStream(other, one)


class MemoryChannel:
    """`connect` gives the client's end of a new stream, or raises SandboxDeadError."""

    def __init__(self, connect: Callable[[], MemoryStream]) -> None:
        self._connect = connect
        self._open: list[MemoryStream] = []
        self._closed = False

    @property
    def direct_path(self) -> None:
        return None

    async def open(self) -> MemoryStream:
        if self._closed:
            raise SandboxDeadError("the channel was closed", reason="channel_closed")
        stream = self._connect()
        self._open = [known for known in self._open if not known.closed]
        self._open.append(stream)
        return stream

    async def close(self) -> None:
        self._closed = True
        for stream in self._open:
            stream.close_now()
