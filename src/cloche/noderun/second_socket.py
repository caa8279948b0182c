"""Another place at which a node answers: a unix socket at a path that somebody chose, outside of the data directory."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator

from cloche.model.errors import ClocheError, InvalidError
from cloche.noderun.home import BACKLOG, bind_private

#: sun_path holds 108 bytes with its NUL
MAX_PATH_BYTES = 107


@contextlib.contextmanager
def second_socket(path: str) -> Iterator[socket.socket]:
    """Listens at `path` (0600), and takes it away afterwards if it is still the same. Raises InvalidError when
    somebody answers there, it is no socket, or the path is too long, and ClocheError."""
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise InvalidError(f"a socket's path has at most {MAX_PATH_BYTES} bytes: {path}", field="socket")
    _make_room(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with listener:
        bound = _bind(listener, path)
        try:
            listener.listen(BACKLOG)
            yield listener
        finally:
            _remove(path, bound)


def _make_room(path: str) -> None:
    """A socket that nobody serves any more goes; anything else stays."""
    try:
        found = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise InvalidError(f"{path} is there and is no socket", remedy="name another --socket", field="socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:
            pass
    raise InvalidError(f"somebody listens at {path}", remedy="name another --socket", field="socket")


def _bind(listener: socket.socket, path: str) -> tuple[int, int]:
    try:
        bind_private(listener, path)
        found = os.lstat(path)
    except OSError as error:
        raise ClocheError(f"cannot listen at {path}: {error.strerror}", remedy="name another --socket") from error
    return found.st_dev, found.st_ino


def _remove(path: str, bound: tuple[int, int]) -> None:
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if bound == (found.st_dev, found.st_ino):
            os.unlink(path)
