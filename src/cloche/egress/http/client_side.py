"""The client's end of a connection that carries requests: what it asks, in the order in which it asks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from cloche.channel.base import ByteStream
from cloche.egress.http.ahead import OWN_BOUNDS, Bounds, WatchedStream
from cloche.egress.http.framing import BadMessageError
from cloche.egress.http.heads import RequestHead
from cloche.egress.http.outcomes import ClientGoneError
from cloche.egress.http.requests import End, RequestReader

#: from the first byte of a head to its last
HEAD_SECONDS = 10.0
#: between two requests, and before the first
IDLE_SECONDS = 300.0
#: what a client that was refused may still send, so that it reads the answer before the connection ends
DRAIN_BYTES = 64 << 10
DRAIN_SECONDS = 2.0


class ClientSide:
    def __init__(self, stream: ByteStream, first: bytes, bounds: Bounds = OWN_BOUNDS) -> None:
        self._stream = WatchedStream(stream, bounds)
        self._hold = bounds.hold
        self._reader = RequestReader()
        if first:
            self._reader.feed(first)

    async def next_head(self) -> RequestHead | None:
        """None: it has ended, or was quiet for too long. What has come counts as held until `decided`. Raises
        BadMessageError (408 for a head that never ends) and LimitHit."""
        head = self._reader.next()
        if head is None and self._reader.idle and not self._reader.ended and not await self._stirs():
            await self._end(b"")
            return None
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = head or await self._search_head()
        except TimeoutError:
            raise BadMessageError(f"the head of a request did not end in {HEAD_SECONDS:.0f} s", 408) from None
        except ClientGoneError:
            return None
        assert head is None or isinstance(head, RequestHead)
        return head

    async def _search_head(self) -> RequestHead | bytes | End | None:
        self._hold(self._reader.waiting)
        while (event := self._reader.next()) is None and not self._reader.ended:
            self._reader.feed(await self._read(self._stream.read_a_little))
            self._hold(self._reader.waiting)
        return event

    def decided(self) -> None:
        """Its request is carried now, or refused."""
        self._hold(0)

    async def _stirs(self) -> bool:
        """Whether anything comes."""
        await asyncio.wait({self._stream.watch()}, timeout=IDLE_SECONDS)
        return self._stream.stirred

    async def next_piece(self) -> bytes | None:
        """Of the body; None: it is complete. Raises BadMessageError, ClientGoneError."""
        event = await self._next()
        return event if isinstance(event, bytes) else None

    async def _next(self) -> RequestHead | bytes | End | None:
        """None: it has ended between two requests."""
        while (event := self._reader.next()) is None:
            if self._reader.ended:
                return None
            self._reader.feed(await self._read(self._stream.read_directly))
        return event

    async def _read(self, read: Callable[[], Awaitable[bytes]]) -> bytes:
        try:
            return await read()
        except ConnectionError as error:
            raise ClientGoneError from error

    async def write(self, data: bytes) -> None:
        """Raises ClientGoneError."""
        if not data:
            return
        try:
            await self._stream.write(data)
        except ConnectionError as error:
            raise ClientGoneError from error

    async def write_eof(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._stream.write_eof()

    def watch(self) -> asyncio.Task[bytes]:
        """Between End and the next head only. Done: it has said something more, has finished, or is gone."""
        return self._stream.watch()

    def resume(self) -> None:
        """The upgrade that it proposed did not come about."""
        self._reader.resume()

    def take_rest(self) -> bytes:
        """What it has sent behind an upgrade or CONNECT; what follows is no HTTP any more."""
        return self._reader.take_rest()

    async def read_raw(self) -> bytes:
        """Raises ClientGoneError."""
        return await self._read(self._stream.read_directly)

    async def refuse(self, answer: bytes) -> None:
        """Say it, and end."""
        await self._end(answer)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._drain()

    async def _end(self, last: bytes) -> None:
        """Say that nothing follows, to whoever still listens."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(HEAD_SECONDS):
                if last:
                    await self._stream.write(last)
                await self._stream.write_eof()

    async def _drain(self) -> None:
        drained = 0
        while drained < DRAIN_BYTES and (data := await self._stream.read()):
            drained += len(data)

    async def close(self) -> None:
        await self._stream.close()
