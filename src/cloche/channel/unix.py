"""A channel over a listening unix socket: every stream is one connection.

Streams sit directly on sockets, without a transport in between: nothing is read before somebody asks for it, so
backpressure is the kernel's own, and an answer that the other end sent before it closed is never thrown away by a
failed write (a buffering transport does that).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from cloche.model.errors import ClocheError, LimitHitError, SandboxDeadError

MAX_READ_BYTES = 1 << 20
CONNECT_TIMEOUT_SECONDS = 10
#: how much one stream may move before others have their turn
TURN_BYTES = 128 << 10
#: sun_path without its terminating NUL
_MAX_ADDRESS_BYTES = 107
#: the host's trouble, which says nothing about the sandbox
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class UnixStream:
    """One connection. Reading and writing may go on at the same time, each from one task."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pending = 0
        self._closed = False
        self._turn_bytes = TURN_BYTES

    async def read(self, max_bytes: int) -> bytes:
        with self._operation():
            data = await asyncio.get_running_loop().sock_recv(self._sock, min(max_bytes, MAX_READ_BYTES))
        await self._take_turns(len(data))
        return data

    async def write(self, data: bytes) -> None:
        with self._operation():
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
        await self._take_turns(len(data))

    async def write_eof(self) -> None:
        with self._operation():
            self._sock.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        self.close_now()

    def close_now(self) -> None:
        if self._closed:
            return
        self._closed = True
        # A waiting read or write must wake up before the descriptor goes: the loop would otherwise wait for ever.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._release()

    def readable(self) -> bool:
        """Whether a read would return at once: on a connection without a request, that means it has been closed."""
        if self._closed:
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(0))

    async def _take_turns(self, count: int) -> None:
        """A read that finds bytes does not wait, so a stream at full rate would keep the loop from everybody else."""
        self._turn_bytes -= max(count, TURN_BYTES // 64)
        if self._turn_bytes <= 0:
            self._turn_bytes = TURN_BYTES
            await asyncio.sleep(0)

    @contextlib.contextmanager
    def _operation(self) -> Iterator[None]:
        if self._closed:
            raise ConnectionResetError("the stream is closed")
        self._pending += 1
        try:
            yield
        except ConnectionError:
            raise
        except OSError as error:
            raise ConnectionResetError(str(error)) from error
        finally:
            self._pending -= 1
            self._release()

    def _release(self) -> None:
        if self._closed and not self._pending:
            self._sock.close()


class UnixChannel:
    """The way to a guest that listens at `path`; the path may be longer than an address may be."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._streams: set[_OwnedStream] = set()

    async def open(self) -> UnixStream:
        """Raises SandboxDeadError when nobody listens there, LimitHitError when this process has no descriptor left."""
        try:
            sock = await connect(self._path)
        except OSError as error:
            raise unreachable(self._path, error) from error
        stream = _OwnedStream(sock, self._streams)
        self._streams.add(stream)
        return stream

    @property
    def direct_path(self) -> Path:
        return self._path

    def moved(self, path: str | os.PathLike[str]) -> None:
        """The socket is there from now on; connections that are open stay."""
        self._path = Path(path)

    async def close(self) -> None:
        for stream in list(self._streams):
            stream.close_now()


class _OwnedStream(UnixStream):
    def __init__(self, sock: socket.socket, owner: set[_OwnedStream]) -> None:
        super().__init__(sock)
        self._owner = owner

    def close_now(self) -> None:
        self._owner.discard(self)
        super().close_now()


def unreachable(path: Path, error: OSError) -> ClocheError:
    if error.errno in _EXHAUSTED:
        return LimitHitError(f"no descriptor or memory left to reach {path}: {error.strerror}", limit="open_files")
    return SandboxDeadError(f"nobody answers on {path}: {error.strerror or error}", reason="unreachable")


async def connect(path: Path) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError; `unreachable` says what it means."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with address_of(path) as address:
            await _connect_to(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_to(sock: socket.socket, address: str) -> None:
    try:
        sock.connect(address)
    except BlockingIOError:
        # Unlike TCP this is no "in progress": the listener's queue is full, and only a blocking connect waits for it.
        await asyncio.to_thread(_connect_blocking, sock, address)


def _connect_blocking(sock: socket.socket, address: str) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", CONNECT_TIMEOUT_SECONDS, 0))
    sock.setblocking(True)
    try:
        sock.connect(address)
    except BlockingIOError as error:
        raise TimeoutError("its queue of connections stays full") from error
    finally:
        sock.setblocking(False)


@contextlib.contextmanager
def address_of(path: Path) -> Iterator[str]:
    """An address that fits: a long path is reached through a descriptor of its directory."""
    if len(os.fsencode(path)) <= _MAX_ADDRESS_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
