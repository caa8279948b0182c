"""An answer that is a connection: after 101 the bytes of a request's connection are those of another.

HTTP could carry this in two bodies that stream at once, and uvicorn would do it; but a response that has ended ends the
exchange, so a server that finishes sending before its client does could not be carried, and every byte would be parsed
and framed twice. As an upgrade both ends have what the guest's own dial route has: raw bytes and half-close."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from starlette.types import Send

from cloche.api.incoming import Incoming
from cloche.api.replies import Closing
from cloche.channel.base import ByteStream
from cloche.channel.carrying import carry_both_ways
from cloche.model.errors import InvalidError

PROTOCOL = "cloche-stream"
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: cloche-stream\r\n"
    b"cloche-api-version: %d\r\n\r\n"
)


class Tunnel:
    """`opening` gives the inside; what it raises is answered like any error."""

    def __init__(self, opening: AbstractAsyncContextManager[ByteStream], *, api_version: int = 1) -> None:
        self._opening = opening
        self._switching = _SWITCHING % api_version

    async def send(self, incoming: Incoming, send: Send, closing: Closing) -> None:
        if incoming.take_over is None:
            raise InvalidError(f"this needs Connection: Upgrade and Upgrade: {PROTOCOL}", field="upgrade")
        async with self._opening as inside:
            outside = incoming.take_over()
            try:
                await outside.write(self._switching)
                await carry(outside, inside, closing)
            except ConnectionError:
                pass
            finally:
                await outside.close()


async def carry(outside: ByteStream, inside: ByteStream, closing: Closing) -> None:
    """Bytes both ways until both have ended, one is gone (ConnectionError), or the node leaves."""
    both = asyncio.ensure_future(carry_both_ways(outside, inside))
    leaving = asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait((both, leaving), return_when=asyncio.FIRST_COMPLETED)
        if both.done():
            both.result()
    finally:
        both.cancel()
        leaving.cancel()
        await asyncio.gather(both, leaving, return_exceptions=True)
