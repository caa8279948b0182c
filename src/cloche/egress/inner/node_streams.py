"""Streams to guests that only the node can reach: it is asked for each, and sends a connected socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from cloche.egress.inner.guest_streams import Connect
from cloche.egress.messages import Stream, StreamReply

TIMEOUT_SECONDS = 10.0


class NodeStreams:
    def __init__(self, tell: Callable[[Stream], None]) -> None:
        self._tell = tell
        self._waiting: dict[int, asyncio.Future[socket.socket]] = {}
        self._next = 0

    def to(self, sandbox_id: str) -> Connect:
        return lambda: self._open(sandbox_id)

    def replied(self, message: StreamReply, descriptors: list[int]) -> None:
        """Takes the descriptors."""
        future = self._waiting.get(message.id)
        wanted = future is not None and not future.done()
        for descriptor in descriptors[1 if wanted else 0 :]:
            os.close(descriptor)
        if future is None or not wanted:
            return
        if message.error is not None or not descriptors:
            future.set_exception(ConnectionAbortedError(message.error or "the node gave no stream"))
            return
        sock = socket.socket(fileno=descriptors[0])
        sock.setblocking(False)
        future.set_result(sock)

    async def _open(self, sandbox_id: str) -> socket.socket:
        """Raises ConnectionError."""
        self._next += 1
        number = self._next
        future: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._tell(Stream(id=number, sandbox_id=sandbox_id))
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await future
        except TimeoutError as error:
            raise ConnectionAbortedError("the node gave no stream") from error
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().close()
            raise
        finally:
            del self._waiting[number]
