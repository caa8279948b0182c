"""A place on this machine whose connections end in a sandbox. The twin is `_sync/forwarding.py`, by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from types import TracebackType

from cloche.model.errors import ClocheError
from cloche.sdk._async.transport import AsyncTransport
from cloche.sdk._async.tunnel import AsyncTunnel
from cloche.sdk.listening import LocalPlace, reset
from cloche.sdk.wire import Query

PROTOCOL = "cloche-stream"
#: at once; more wait in the queue of the listening socket
MAX_CONNECTIONS = 256
READ_BYTES = 256 << 10


class AsyncForward:
    """`address`: "127.0.0.1:8000", or the path of a unix socket. `on_failure` is called with the reason of each
    connection that could not be made; its client sees a reset."""

    def __init__(self, transport: AsyncTransport, path: str, query: Query, place: LocalPlace) -> None:
        """`path`, `query`: of the node's route that dials. The place is closed with it."""
        self.address = place.address
        self.port = place.port
        self.on_failure: Callable[[ClocheError], None] = lambda error: None
        self._transport, self._path, self._query = transport, path, query
        self._place = place
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._open: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.ensure_future(self._accept())

    async def aclose(self) -> None:
        """Stop listening, and end every connection; safe to call twice."""
        self._accepting.cancel()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(self._accepting, *self._open, return_exceptions=True)
        self._place.close()

    async def __aenter__(self) -> AsyncForward:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._free.acquire()
            try:
                sock, _ = await loop.sock_accept(self._place.sock)
            except OSError:
                # no descriptor left, or the client has gone again
                self._free.release()
                await asyncio.sleep(0.1)
                continue
            sock.setblocking(False)
            task = asyncio.ensure_future(self._carry(sock))
            self._open.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._free.release()

    async def _carry(self, sock: socket.socket) -> None:
        with contextlib.closing(sock):
            try:
                inside = await self._transport.upgrade(self._path, query=self._query, protocol=PROTOCOL)
            except ClocheError as error:
                reset(sock)
                self.on_failure(error)
                return
            try:
                await _both_ways(sock, inside)
            except OSError:
                reset(sock)
            finally:
                await inside.aclose()


async def _both_ways(sock: socket.socket, inside: AsyncTunnel) -> None:
    """Until both have finished, or one is gone (OSError)."""
    both = asyncio.gather(_up(sock, inside), _down(sock, inside))
    try:
        await both
    finally:
        both.cancel()
        await asyncio.gather(both, return_exceptions=True)


async def _up(sock: socket.socket, inside: AsyncTunnel) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, READ_BYTES):
        await inside.write(data)
    await inside.write_eof()


async def _down(sock: socket.socket, inside: AsyncTunnel) -> None:
    loop = asyncio.get_running_loop()
    while data := await inside.read(READ_BYTES):
        await loop.sock_sendall(sock, data)
    sock.shutdown(socket.SHUT_WR)
