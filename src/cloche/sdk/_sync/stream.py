"""One connection to the node's socket. The twin is `_async/stream.py`, by hand.

Every method raises OSError, of which TimeoutError is one, and closes nothing by itself."""

from __future__ import annotations

import contextlib
import select
import socket

from cloche.sdk.dial import connected

READ_BYTES = 256 << 10


class Stream:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @classmethod
    def open(cls, path: str, seconds: float) -> Stream:
        return cls(connected(path, seconds))

    def send(self, data: bytes) -> None:
        """All of it, however long the other end takes."""
        self._sock.settimeout(None)
        self._sock.sendall(data)

    def receive(self, seconds: float | None) -> bytes:
        """What is there, or what comes within `seconds` (None: some day); empty at the end."""
        self._sock.settimeout(seconds)
        return self._sock.recv(READ_BYTES)

    def finish(self) -> None:
        """The other end reads an end from now on."""
        self._sock.shutdown(socket.SHUT_WR)

    def give_up(self) -> None:
        """In both directions: whoever waits on it wakes up."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def quiet(self) -> bool:
        """Whether nothing has come, not even its end."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLHUP)
        return not poll.poll(0)

    def close(self) -> None:
        self._sock.close()

    def __del__(self) -> None:
        # clients need not be closed: what they leave idle goes without a warning
        self._sock.close()
