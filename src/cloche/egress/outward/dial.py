"""Connects to addresses that were checked, and to nothing else: the name is not looked up again.

Several addresses are tried as RFC 8305 says (happy eyeballs): IPv6 and IPv4 in turn, each a moment after the one
before, and the first that answers is taken."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest

from cloche.egress.hooks import DialError

TIMEOUT_SECONDS = 10.0
#: how much later the next address is tried
STAGGER_SECONDS = 0.25
#: a name with more addresses is not tried on all
MAX_ADDRESSES = 8

_WORDS = {
    errno.ECONNREFUSED: "the connection was refused",
    errno.ETIMEDOUT: "nobody answered",
    errno.EHOSTUNREACH: "there is no way to the host",
    errno.ENETUNREACH: "there is no way to the network",
    errno.EMFILE: "the door has no descriptor left",
    errno.ENFILE: "the machine has no descriptor left",
    errno.EADDRNOTAVAIL: "the machine has no address of that kind",
}


def in_turn(addresses: Sequence[str]) -> list[str]:
    """IPv6 first, then one of each, in their order; at most MAX_ADDRESSES."""
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    both = chain.from_iterable(zip_longest(six, four))
    return [address for address in both if address is not None][:MAX_ADDRESSES]


async def dial(addresses: Sequence[str], port: int, timeout_seconds: float = TIMEOUT_SECONDS) -> socket.socket:
    """A connected, non-blocking socket to the first that answers. Raises DialError."""
    if not addresses:
        raise DialError("it has no address")
    try:
        async with asyncio.timeout(timeout_seconds):
            if len(addresses) == 1:
                return await _connect(addresses[0], port)
            return await _race(in_turn(addresses), port)
    except TimeoutError as error:
        raise DialError(f"nobody answered within {timeout_seconds:g} seconds") from error
    except OSError as error:
        raise DialError(reason(error)) from error


def reason(error: OSError) -> str:
    return _WORDS.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__


async def _race(addresses: list[str], port: int) -> socket.socket:
    """Raises the OSError of the last that failed."""
    running: set[asyncio.Task[socket.socket]] = set()
    waiting = list(addresses)
    failed: OSError | None = None
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(_connect(waiting.pop(0), port)))
            done, running = await asyncio.wait(
                running,
                timeout=STAGGER_SECONDS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None:
                    done.discard(task)
                    running |= done
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                failed = error
        raise failed or OSError("nothing was tried")
    finally:
        _give_up(running)


def _give_up(tasks: set[asyncio.Task[socket.socket]]) -> None:
    for task in tasks:
        task.add_done_callback(_close_late)
        task.cancel()


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    """One that has connected although nobody wants it any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        prepare(sock)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def prepare(sock: socket.socket) -> None:
    """Small pieces leave at once, and a host that has gone is noticed after some minutes."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 120)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
