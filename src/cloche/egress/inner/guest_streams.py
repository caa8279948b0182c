"""Streams to one guest: its HTTP server is asked to switch protocols, and from then on the bytes are ours.

The guest may be hostile: its answer is bounded in size and time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from cloche.channel import unix
from cloche.egress.hooks import DialError
from cloche.egress.outward.sockets import SocketStream
from cloche.http1 import Answer, ProtocolError, request_head

UPGRADE_SECONDS = 10.0
#: the protocol of streams to ports
DIAL = b"cloche-stream"
_MAX_READ_BYTES = 16 << 10

#: a new connection to the guest's HTTP server. Raises OSError
Connect = Callable[[], Awaitable[socket.socket]]


class GuestRefusedError(ConnectionError):
    """The guest does not switch; `status` is what it answered."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the guest answered {status}")
        self.status = status


def at_socket(path: str) -> Connect:
    return lambda: unix.connect(Path(path))


async def switched(connect: Connect, target: bytes, protocol: bytes) -> SocketStream:
    """A new stream of this protocol. Raises ConnectionError (also when it takes too long)."""
    try:
        async with asyncio.timeout(UPGRADE_SECONDS):
            sock = await connect()
            try:
                return await _switch(sock, target, protocol)
            except BaseException:
                sock.close()
                raise
    except TimeoutError as error:
        raise ConnectionAbortedError("the guest does not answer") from error
    except ConnectionError:
        raise
    except OSError as error:
        raise ConnectionAbortedError(str(error)) from error


async def _switch(sock: socket.socket, target: bytes, protocol: bytes) -> SocketStream:
    stream = SocketStream(sock)
    headers = [(b"Host", b"guest"), (b"Connection", b"Upgrade"), (b"Upgrade", protocol), (b"Content-Length", b"0")]
    await stream.write(request_head("POST", target, headers))
    answer = Answer(may_upgrade=True)
    while not answer.complete and answer.status in (0, 101):
        _feed(answer, await stream.read(_MAX_READ_BYTES))
    if answer.status != 101:
        raise GuestRefusedError(answer.status)
    return SocketStream(sock, answer.leading)


def _feed(answer: Answer, data: bytes) -> None:
    if not data:
        raise ConnectionResetError("the guest has closed the connection")
    try:
        answer.feed(data)
    except ProtocolError as error:
        raise ConnectionAbortedError(f"no answer of a guest: {error}") from error


async def to_port(connect: Connect, port: int) -> SocketStream:
    """To a port inside the sandbox. Raises GuestRefusedError (404: nothing listens there), ConnectionError."""
    try:
        return await switched(connect, b"/v1/dial?port=%d&host=127.0.0.1" % port, DIAL)
    except GuestRefusedError as error:
        if error.status != 404:
            raise
        # servers that listen on "localhost" take one of the two addresses, and not always the first
        return await switched(connect, b"/v1/dial?port=%d&host=::1" % port, DIAL)


async def dial_port(connect: Connect, port: int) -> SocketStream:
    """As `to_port`. Raises DialError."""
    try:
        return await to_port(connect, port)
    except GuestRefusedError as error:
        raise DialError("nothing listens there" if error.status == 404 else str(error)) from error
    except ConnectionError as error:
        raise DialError(f"the sandbox does not answer: {error}") from error
