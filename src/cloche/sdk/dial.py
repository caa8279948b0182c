"""A socket that is connected to a unix address; both halves begin here."""

from __future__ import annotations

import socket
import struct


def connected(path: str, seconds: float | None) -> socket.socket:
    """Raises OSError: TimeoutError when the listener's queue stays full for `seconds`, and with None BlockingIOError
    at once."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if seconds is None:
            sock.setblocking(False)
        else:
            # unlike TCP a full queue is no "in progress" that could be waited for with poll
            timeout = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        _connect(sock, path, seconds)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, path: str, seconds: float | None) -> None:
    try:
        sock.connect(path)
    except BlockingIOError as error:
        if seconds is None:
            raise
        raise TimeoutError("its queue of connections stays full") from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 0))
