"""Streams that sit directly on sockets, with what was read too early given back.

A connection is looked at before it is carried (its head, a TLS hello, an HTTP request), and then either read on by
somebody else or handed to the relay as a bare socket. So a stream can be peeked into, and taken apart."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

from cloche.channel.unix import UnixStream

#: what a peek asks for at once
PEEK_BYTES = 16 << 10
_RESET_ON_CLOSE = struct.pack("@ii", 1, 0)


class SocketStream(UnixStream):
    """A `ByteStream` over any connected, non-blocking socket. `first`: bytes that were read from it already."""

    def __init__(self, sock: socket.socket, first: bytes = b"") -> None:
        super().__init__(sock)
        self._first = first
        self._count: Callable[[int], None] = _uncounted

    def counted_by(self, count: Callable[[int], None]) -> None:
        """`count` is told how many bytes are in `peeked`, now and whenever that changes. It may raise: then nothing
        more is peeked."""
        self._count = count
        count(len(self._first))

    def uncounted(self) -> None:
        """From now on: it ends soon, with what little it may still say."""
        self._count = _uncounted

    def _set_peeked(self, data: bytes) -> None:
        self._first = data
        self._count(len(data))

    async def read(self, max_bytes: int) -> bytes:
        if self._first:
            data = self._first[:max_bytes]
            self._set_peeked(self._first[max_bytes:])
            return data
        return await super().read(max_bytes)

    @property
    def peeked(self) -> bytes:
        return self._first

    async def peek_more(self) -> bool:
        """Wait for more bytes and keep them in `peeked`; False at the end of the stream. Raises ConnectionError."""
        data = await super().read(PEEK_BYTES)
        if data:
            self._set_peeked(self._first + data)
        return bool(data)

    async def peek_exactly(self, count: int) -> bytes:
        """The next bytes, taken out. Raises ConnectionError when the stream ends before."""
        while len(self._first) < count:
            if not await self.peek_more():
                raise ConnectionResetError("the stream ended within a message")
        data = self._first[:count]
        self._set_peeked(self._first[count:])
        return data

    def take_peeked(self) -> bytes:
        data = self._first
        self._set_peeked(b"")
        return data

    def give_back(self, data: bytes) -> None:
        """To be read again, before anything else."""
        self._set_peeked(data + self._first)

    @property
    def socket(self) -> socket.socket:
        """For a relay, which closes it; then nothing else may wait on the stream."""
        return self._sock

    @contextlib.contextmanager
    def watched(self) -> Iterator[asyncio.Future[None]]:
        """Done when a read would return at once, or there is something in `peeked`; nothing is read."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        descriptor = self._sock.fileno()

        def seen() -> None:
            if not future.done():
                future.set_result(None)

        loop.add_reader(descriptor, seen)
        if self._first:
            seen()
        try:
            yield future
        finally:
            loop.remove_reader(descriptor)

    def reset(self) -> None:
        """Close so that the other end of a TCP connection sees a reset."""
        if not self._closed:
            reset_on_close(self._sock)
        self.close_now()

    async def drain(self, max_bytes: int, timeout_seconds: float) -> None:
        """Say that nothing more comes, and read what the other end had under way: a close with bytes unread would
        throw away what was just sent."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.write_eof()
                while max_bytes > 0 and (data := await self.read(PEEK_BYTES)):
                    max_bytes -= len(data)
        except (ConnectionError, TimeoutError):
            pass


def _uncounted(_: int) -> None:
    """Whoever peeks has a bound of its own."""


def reset_on_close(sock: socket.socket) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except OSError:
            pass
