"""One HTTP/2 connection (without TLS) to a published port: its first request says to which, and then bytes pass.

What comes later is between the client and that one port, whatever host it names. Clients that wait for the server's
settings before they ask for anything, as those of gRPC do, are sent empty ones: they then do what others do by
themselves, and the server's own settings follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloche.egress.http import client_side
from cloche.egress.inward import http2_answers, ingress_pages
from cloche.egress.inward.carrying import carry
from cloche.egress.inward.http2_first import (
    PREFACE,
    SETTINGS_TIMEOUT,
    BadHttp2Error,
    FirstRequest,
    FirstRequestReader,
)
from cloche.egress.inward.ingress_pages import Page
from cloche.egress.inward.published import Entry, Streams, UnreachableError, Visit
from cloche.egress.outward.sockets import PEEK_BYTES, SocketStream

#: what a client may still send that was given no window: its first one, in frames
DRAIN_BYTES = 128 << 10


async def speaks_http2(stream: SocketStream) -> bool:
    """What it has said so far is peeked. Raises ConnectionError, TimeoutError."""
    while len(stream.peeked) < len(PREFACE) and PREFACE.startswith(stream.peeked):
        seconds = client_side.HEAD_SECONDS if stream.peeked else client_side.IDLE_SECONDS
        async with asyncio.timeout(seconds):
            if not await stream.peek_more():
                return False
    return stream.peeked.startswith(PREFACE)


class Http2Connection:
    """As HttpConnection; `stream` has peeked at what begins as HTTP/2."""

    def __init__(
        self, stream: SocketStream, peer: str, named: Callable[[str], Entry | None], streams: Streams,
        visited: Callable[[Visit], None],
    ) -> None:  # fmt: skip
        self._stream = stream
        self._reader = FirstRequestReader()
        self._peer = peer
        self._named = named
        self._streams = streams
        self._visited = visited

    async def run(self) -> None:
        """Until one of the two has enough; closes everything."""
        try:
            asked = await self._first_request()
            if asked is not None:
                await self._serve(asked)
        except BadHttp2Error as error:
            await self._say_last(http2_answers.farewell(error, greeted=self._reader.greeted))
        except OSError:
            # of whichever end it was
            pass
        finally:
            self._stream.close_now()

    async def _first_request(self) -> FirstRequest | None:
        """None: it has left without one."""
        self._reader.feed(self._stream.take_peeked())
        while (asked := self._reader.next()) is None:
            if self._reader.idle and not self._reader.greeted:
                await self._greet()
            if not (data := await self._more()):
                return None
            self._reader.feed(data)
        return asked

    async def _greet(self) -> None:
        self._reader.greet()
        await self._stream.write(http2_answers.greeting())

    async def _more(self) -> bytes:
        idle = self._reader.idle
        try:
            async with asyncio.timeout(client_side.IDLE_SECONDS if idle else client_side.HEAD_SECONDS):
                return await self._stream.read(PEEK_BYTES)
        except TimeoutError:
            if idle:
                return b""
            raise BadHttp2Error("the first request took too long", SETTINGS_TIMEOUT) from None

    async def _serve(self, asked: FirstRequest) -> None:
        entry = self._named(asked.host)
        if entry is None:
            await self._answer(ingress_pages.unknown(asked.accept), asked)
            return
        visit = Visit(entry=entry, protocol="http2", peer=self._peer)
        task = asyncio.current_task()
        assert task is not None
        entry.users.add(task)
        try:
            await carry(visit, await entry.dial(self._streams), self._stream, self._reader.said)
        except UnreachableError as error:
            visit.why = error.why
            page = ingress_pages.unreachable(error.why, entry.port, entry.sandbox_id, asked.accept)
            await self._answer(page, asked)
        finally:
            entry.users.discard(task)
            self._visited(visit)

    async def _answer(self, page: Page, asked: FirstRequest) -> None:
        await self._say_last(http2_answers.answer(page, asked, greeted=self._reader.greeted))

    async def _say_last(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(client_side.HEAD_SECONDS):
                await self._stream.write(data)
        except (ConnectionError, TimeoutError):
            return
        await self._stream.drain(DRAIN_BYTES, client_side.DRAIN_SECONDS)
