"""The site's end: one connection that may carry one request after the other, and the response to each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cloche.channel.base import ByteStream
from cloche.egress.hooks import Site
from cloche.egress.http.ahead import OWN_BOUNDS, Bounds, WatchedStream
from cloche.egress.http.heads import RequestHead, ResponseHead
from cloche.egress.http.outcomes import UpstreamGoneError
from cloche.egress.http.requests import End, ResponseReader

#: makes a connection to a site, with verified TLS where its scheme says so; raises DialError
Connect = Callable[[Site], Awaitable[ByteStream]]


class SiteSide:
    """`used`: it has carried a request already, so the site may have given it up meanwhile."""

    def __init__(self, site: Site, stream: ByteStream, bounds: Bounds = OWN_BOUNDS) -> None:
        self.site = site
        self.used = False
        self._stream = WatchedStream(stream, bounds)
        self._reader: ResponseReader | None = None

    def expect(self, request: RequestHead) -> None:
        """What is read from now on answers this request."""
        self._reader = ResponseReader(request)

    async def write(self, data: bytes) -> None:
        """Raises UpstreamGoneError."""
        try:
            await self._stream.write(data)
        except ConnectionError as error:
            raise self._gone(error) from error

    async def write_eof(self) -> None:
        try:
            await self._stream.write_eof()
        except ConnectionError as error:
            raise self._gone(error) from error

    def ready(self) -> ResponseHead | bytes | End | None:
        """What has come already. Raises BadMessageError."""
        assert self._reader is not None
        return self._reader.next()

    async def receive(self) -> int:
        """Waits for more and says how many bytes came. Raises UpstreamGoneError."""
        assert self._reader is not None
        try:
            data = await self._stream.read_directly()
        except ConnectionError as error:
            raise self._gone(error) from error
        if not data and not self._reader.begun:
            raise UpstreamGoneError("it closed the connection without an answer", unheard=True)
        self._reader.feed(data)
        return len(data)

    def _gone(self, error: ConnectionError) -> UpstreamGoneError:
        unheard = self._reader is not None and not self._reader.begun
        return UpstreamGoneError(f"it broke the connection ({error})", unheard=unheard)

    def take_rest(self) -> bytes:
        """What came behind the head of a 101."""
        assert self._reader is not None
        return self._reader.take_rest()

    async def read_raw(self) -> bytes:
        """After a 101. Raises UpstreamGoneError."""
        try:
            return await self._stream.read_directly()
        except ConnectionError as error:
            raise self._gone(error) from error

    def rest(self) -> bool:
        """Between two requests. Whether another one may follow."""
        self.used = True
        if self._reader is None or not self._reader.reusable:
            return False
        self._stream.watch()
        return True

    @property
    def stale(self) -> bool:
        """It said something that nobody asked for while it was resting, its end above all."""
        return self._stream.stirred

    async def is_stale(self) -> bool:
        """As `stale`, and what has come in this very moment counts too."""
        for _ in range(2):
            # seen in the loop's next turns
            await asyncio.sleep(0)
        return self.stale

    async def close(self) -> None:
        await self._stream.close()
