"""A listening socket on loopback, and the connections that it has accepted."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Coroutine

#: of one listener, at once; more are closed as they come
MAX_CONNECTIONS = 1024
BACKLOG = 256
#: how long to wait when the process has no descriptor left
EXHAUSTED_SECONDS = 0.2
_ATTEMPTS = 20
#: accepted in one turn of the loop
_TURN = 16

log = logging.getLogger(__name__)

Serve = Callable[[socket.socket], Coroutine[None, None, None]]


class Listener:
    """`serve` carries one connection to its end, and closes its socket. Several sockets share one bound."""

    def __init__(self, sockets: list[socket.socket], serve: Serve) -> None:
        self._sockets = sockets
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        for sock in sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    @property
    def port(self) -> int:
        return int(self._sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Its connections end before this does."""
        if self._waiting is not None:
            self._waiting.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        await ended(self._tasks)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_TURN):
            try:
                sock, _peer = listening.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                self._refrain(listening, error)
                return
            self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        if len(self._tasks) >= MAX_CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.ensure_future(self._serve(sock))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        # one that is cancelled before its first step has closed nothing
        task.add_done_callback(lambda _: sock.close())

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a connection to a published port has failed", exc_info=task.exception())

    def _refrain(self, listening: socket.socket, error: OSError) -> None:
        """No descriptor left: the connection stays in the queue, and asking again at once would only burn time."""
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            return
        self._loop.remove_reader(listening.fileno())
        self._waiting = self._loop.call_later(EXHAUSTED_SECONDS, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening.fileno(), self._accept, listening)


async def ended(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel them and wait until they are over."""
    running = list(tasks)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def bound(port: int, *, both: bool) -> list[socket.socket]:
    """Sockets that listen on 127.0.0.1, with `both` also on ::1 (the first that a browser tries) where there is one,
    at the same port: this one, or another when somebody else has it, or any for 0. Raises OSError."""
    for candidate in [port] * (port > 0) + [0] * _ATTEMPTS:
        try:
            return _bound_at(candidate, both)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            failure = error
    raise failure


def _bound_at(port: int, both: bool) -> list[socket.socket]:
    four = _listening(socket.AF_INET, ("127.0.0.1", port))
    try:
        return [four, *(_on_six(four.getsockname()[1]) if both else [])]
    except BaseException:
        four.close()
        raise


def _on_six(port: int) -> list[socket.socket]:
    try:
        return [_listening(socket.AF_INET6, ("::1", port))]
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return []
        raise


def _listening(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
