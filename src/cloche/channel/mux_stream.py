"""One stream of a multiplexed connection, which behaves as a socket of its own would.

What came before the other end gave up can still be read, in order; a cancelled read takes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from cloche.channel.mux_frames import REFUSED, Data, Event, Finished, Reset, Writable
from cloche.channel.unix import TURN_BYTES

#: smaller pieces are joined, so that what a hostile end sends byte by byte does not take many times its size
_SMALL_BYTES = 4096
_JOINED_BYTES = 64 << 10


class Line(Protocol):
    """The connection as one of its streams sees it."""

    def send(self, stream: int, data: memoryview) -> int: ...
    def consumed(self, stream: int, count: int) -> None: ...
    def finish(self, stream: int) -> None: ...
    def give_up(self, stream: int) -> None: ...
    async def has_room(self, turn: asyncio.Future[bool]) -> bool: ...


class Inbox:
    """Bytes that came and are not read yet."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: deque[bytes | bytearray] = deque()
        self._start = 0

    def put(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        last = self._pieces[-1] if self._pieces else b""
        if len(data) >= _SMALL_BYTES:
            self._pieces.append(bytes(data))
        elif isinstance(last, bytearray) and len(last) < _JOINED_BYTES:
            last += data
        else:
            self._pieces.append(bytearray(data))

    def take(self, most: int) -> bytes:
        first, start = self._pieces[0], self._start
        data = bytes(first) if not start and len(first) <= most else bytes(memoryview(first)[start : start + most])
        self._start += len(data)
        self.size -= len(data)
        if self._start == len(first):
            self._pieces.popleft()
            self._start = 0
        return data


class MuxStream:
    """A ByteStream. Reading and writing may go on at the same time, each from one task."""

    def __init__(self, stream: int, line: Line) -> None:
        self._id, self._line = stream, line
        self._inbox = Inbox()
        self._ended = self._finished = self._closed = self._writing = False
        #: why nothing goes out any more, and nothing comes after what is in the inbox
        self._broken: str | None = None
        self._reader: asyncio.Future[bool] | None = None
        self._writer: asyncio.Future[bool] | None = None
        self._turn_bytes = TURN_BYTES

    async def read(self, max_bytes: int) -> bytes:
        self._check_open()
        await self._turn()
        while max_bytes > 0 and not self._inbox.size:
            if self._closed or self._ended:
                return b""  # closed meanwhile: as a socket that is shut down under its reader
            if self._broken:
                raise ConnectionResetError(self._broken)
            if self._reader and not self._reader.done():
                raise RuntimeError("another task reads this stream already")
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = self._inbox.take(max_bytes) if max_bytes > 0 else b""
        self._turn_bytes -= max(len(data), TURN_BYTES // 64)
        self._line.consumed(self._id, len(data))
        return data

    async def write(self, data: bytes) -> None:
        """As the bytes are kept until they are sent, anything but `bytes` is copied."""
        self._check_writable()
        if self._writing:
            raise RuntimeError("another task writes to this stream already")
        self._writing = True
        try:
            await self._turn()
            await self._write(memoryview(bytes(data)))
        finally:
            self._writing = False

    async def _write(self, left: memoryview) -> None:
        loop = asyncio.get_running_loop()
        while left:
            self._check_writable()
            self._writer = loop.create_future()
            if not await self._line.has_room(self._writer):
                continue
            self._check_writable()
            count = self._line.send(self._id, left)
            if not count:
                await self._writer  # the window is full
            left = left[count:]
            self._turn_bytes -= max(count, TURN_BYTES // 64)

    async def write_eof(self) -> None:
        self._check_open()
        self._finished = True
        self._line.finish(self._id)

    async def close(self) -> None:
        self.close_now()

    def close_now(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._line.give_up(self._id)
        self._wake()

    def readable(self) -> bool:
        """Whether a read would return at once: on a connection without a request, that means it has been closed."""
        return bool(self._inbox.size or self._ended or self._broken or self._closed)

    # what the connection tells

    def hear(self, event: Event) -> None:
        match event:
            case Data(_, payload):
                self._inbox.put(payload)
                _settle(self._reader)
            case Writable():
                _settle(self._writer)
            case Finished():
                self._ended = True
                _settle(self._reader)
            case Reset(_, reason):
                self.break_off("the other end refused the stream" if reason == REFUSED else "the other end closed it")

    def break_off(self, why: str) -> None:
        self._broken = self._broken or why
        self._wake()

    def _wake(self) -> None:
        _settle(self._reader)
        _settle(self._writer)

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionResetError("the stream is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if self._broken:
            raise ConnectionResetError(self._broken)
        if self._finished:
            raise BrokenPipeError("the stream is closed for writing")

    async def _turn(self) -> None:
        """A stream at full rate does not wait by itself, and would keep the loop from everybody else. Before anything
        is taken, so that a cancelled read loses nothing."""
        if self._turn_bytes <= 0:
            self._turn_bytes = TURN_BYTES
            await asyncio.sleep(0)


def _settle(future: asyncio.Future[bool] | None) -> None:
    if future and not future.done():
        future.set_result(False)
