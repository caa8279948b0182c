"""A connection after 101 (WebSocket): raw bytes in both directions, still counted, and still without values."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from cloche.egress.hooks import Traffic
from cloche.egress.http.client_side import ClientSide
from cloche.egress.http.outcomes import ClientGoneError, UpstreamGoneError
from cloche.egress.http.site_side import SiteSide
from cloche.egress.secrecy.redaction import RedactedStream, Redaction


class Upgraded:
    """Values are taken out of what the site says, in their own length, so frames stay whole. What the code says is not
    looked at: clients mask their frames, and no value is put into them."""

    def __init__(self, client: ClientSide, upstream: SiteSide, traffic: Traffic, redaction: Redaction) -> None:
        self._client, self._upstream = client, upstream
        self._traffic = traffic
        self._redacted = RedactedStream(redaction) if redaction else None

    async def run(self, client_said: bytes, upstream_said: bytes) -> None:
        """Until both have finished, or one of them is gone. Raises LimitHit."""
        out = asyncio.ensure_future(self._outwards(client_said))
        back = asyncio.ensure_future(self._backwards(upstream_said))
        with contextlib.suppress(ClientGoneError, UpstreamGoneError):
            await _both(out, back)

    async def _outwards(self, data: bytes) -> None:
        if data:
            await self._send(data)
        while data := await self._client.read_raw():
            await self._send(data)
        await self._upstream.write_eof()

    async def _send(self, data: bytes) -> None:
        await self._traffic.sent(len(data))
        await self._upstream.write(data)

    async def _backwards(self, data: bytes) -> None:
        if data:
            await self._client.write(self._clean(data))
        while data := await self._upstream.read_raw():
            await self._traffic.received(len(data))
            await self._client.write(self._clean(data))
        if self._redacted:
            await self._client.write(self._redacted.end())
        await self._client.write_eof()

    def _clean(self, data: bytes) -> bytes:
        return self._redacted.piece(data) if self._redacted else data


async def _both(*directions: asyncio.Task[None]) -> None:
    try:
        await asyncio.gather(*directions)
    finally:
        await stop(*directions)


async def stop(*tasks: asyncio.Task[Any] | None) -> None:
    """They end before this does, and what they raise is of no interest any more."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
