"""A listening socket on this machine, TCP or unix; both halves of the SDK begin here."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from dataclasses import dataclass

from cloche.model.errors import InvalidError, UnavailableError

BACKLOG = 128


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """`port` 0 and `path` given: a unix socket, which is removed when it is closed."""

    sock: socket.socket
    address: str
    port: int = 0
    path: str | None = None

    def close(self) -> None:
        self.sock.close()
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def listen(host: str, port: int, unix: str | None) -> LocalPlace:
    """Raises UnavailableError when the place is taken or cannot be had, InvalidError for no port."""
    if not 0 <= port <= 65535:
        raise InvalidError(f"{port} is no port", field="local_port")
    try:
        return _at_path(unix) if unix is not None else _at_port(host, port)
    except OSError as error:
        where = unix if unix is not None else f"{host}:{port}"
        raise UnavailableError(f"cannot listen on {where}: {error.strerror or error}") from error


def reset(sock: socket.socket) -> None:
    """Closing it tells the other end that something went wrong (TCP only)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))


def _at_port(host: str, port: int) -> LocalPlace:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, kind)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        _start(sock)
        found, number = sock.getsockname()[:2]
    except BaseException:
        sock.close()
        raise
    return LocalPlace(sock, f"[{found}]:{number}" if ":" in found else f"{found}:{number}", number)


def _at_path(path: str) -> LocalPlace:
    """Only this user may connect to it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
        _start(sock)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return LocalPlace(sock, path, path=path)


def _start(sock: socket.socket) -> None:
    sock.listen(BACKLOG)
    sock.setblocking(False)
