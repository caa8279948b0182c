"""A request's body as it comes: bounded when it is JSON, streamed when it is anything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.types import Receive

from cloche.channel.base import ByteStream
from cloche.model.errors import InvalidError

MAX_JSON_BYTES = 8 << 20


class ClientGone(Exception):
    """The client closed its connection; nobody is left to answer."""


class Incoming:
    """One request's receiving side. Only one of `chunks`, `read` and `gone` may be waited on at a time, and `gone`
    waits by itself until the body has been taken. `body` is what `read` has read. `take_over`: makes a stream of the
    connection, which is nobody else's then; None unless the client proposed another protocol (Upgrade)."""

    def __init__(self, receive: Receive, take_over: Callable[[], ByteStream] | None = None) -> None:
        self._receive = receive
        self.take_over = take_over
        self._taken = asyncio.Event()
        self.body = b""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces, at the pace of the one who takes them. Raises ClientGone."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            if chunk := message.get("body", b""):
                yield chunk
        self._taken.set()

    async def read(self, limit_bytes: int = MAX_JSON_BYTES) -> bytes:
        """The whole body. Raises InvalidError beyond the limit, ClientGone."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit_bytes:
                raise InvalidError(f"the request body is larger than {limit_bytes} bytes", field="body")
            parts.append(chunk)
        self.body = b"".join(parts)
        return self.body

    def expect_nothing(self) -> None:
        """The request has no body that anybody wants: what comes is thrown away."""
        self._taken.set()

    async def gone(self) -> None:
        """Return when the client has closed its connection."""
        await self._taken.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
