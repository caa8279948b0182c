"""The node's hold on its data directory: ownership, the lock, and the listening socket.

Everything goes through a descriptor of the directory, so neither a long path nor a rename can lead elsewhere."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from uuid import uuid4

from cloche.model.errors import AlreadyExistsError, ClocheError, NoSpaceError, PermissionDeniedError
from cloche.model.place import LOCK_NAME, SOCKET_NAME

#: how long a node that has closed its socket may still hold the lock
LEAVING_SECONDS = 10.0
BACKLOG = 512


class Home:
    """A data directory that this process owns alone. Close it last."""

    def __init__(self, path: str) -> None:
        """Make the directory (0700) or accept it. Raises PermissionDeniedError, NoSpaceError, ClocheError."""
        self.path = path
        self._directory = _open_directory(path)
        self._lock = -1
        self._bound: tuple[int, int] | None = None

    def __enter__(self) -> Home:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def lock(self, *, patience_seconds: float = LEAVING_SECONDS) -> None:
        """Become the only node here. Raises AlreadyExistsError when another one holds the directory."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with explained(self.path):
            self._lock = os.open(LOCK_NAME, flags, 0o600, dir_fd=self._directory)
            _wait_for_lock(self._lock, self.path, self._someone_listens, patience_seconds)
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, json.dumps({"pid": os.getpid(), "since": time.time()}).encode(), 0)

    def listen(self) -> socket.socket:
        """Bind node.sock (0600). The lock proves that a socket which is there is stale."""
        with explained(self.path):
            self._remove_stale_socket()
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            bind_private(listener, self._socket_path)
            found = os.stat(SOCKET_NAME, dir_fd=self._directory, follow_symlinks=False)
        self._bound = (found.st_dev, found.st_ino)
        listener.listen(BACKLOG)
        return listener

    def remove_socket(self) -> None:
        """Take node.sock away if it is still the one that this process bound."""
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(SOCKET_NAME, dir_fd=self._directory, follow_symlinks=False)
            if self._bound == (found.st_dev, found.st_ino):
                os.unlink(SOCKET_NAME, dir_fd=self._directory)
        self._bound = None

    def identity(self) -> str:
        """An id that this data directory keeps for ever."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with explained(self.path), open(os.open("node.id", flags, 0o600, dir_fd=self._directory), "r+") as file:
            kept = file.read(64).strip()
            if not kept:
                kept = f"node_{uuid4().hex}"
                file.write(kept + "\n")
            return kept

    def close(self) -> None:
        """Give the directory up. The lock file stays: removing it would let two nodes lock different files."""
        for descriptor in (self._lock, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._directory = -1

    @property
    def _socket_path(self) -> str:
        return f"/proc/self/fd/{self._directory}/{SOCKET_NAME}"

    def _remove_stale_socket(self) -> None:
        try:
            found = os.stat(SOCKET_NAME, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            full = f"{self.path}/{SOCKET_NAME}"
            raise PermissionDeniedError(f"{full} is a directory", remedy=f"rmdir {full}")
        os.unlink(SOCKET_NAME, dir_fd=self._directory)

    def _someone_listens(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            return probe.connect_ex(self._socket_path) in (0, errno.EAGAIN)


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn an OSError about the data directory into the error that a person can act on."""
    try:
        yield
    except OSError as error:
        raise why(error, path) from error


def why(error: OSError, path: str) -> ClocheError:
    """The Cloche error for an OSError below `path`."""
    said = f"{path}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(f"the disk is full: {said}", remedy=f"free some space, then look at: df -h {path}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDeniedError(said, remedy="set CLOCHE_HOME to a writable directory of your own")
    return ClocheError(f"cannot use the data directory {said}")


def _open_directory(path: str) -> int:
    with explained(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _require_private(path, os.fstat(descriptor))
        # what was readable for others is ours to tighten; what others could write is not to be trusted at all
        os.fchmod(descriptor, 0o700)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_private(path: str, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise PermissionDeniedError(
            f"the data directory {path} belongs to uid {found.st_uid}, not to uid {os.geteuid()}",
            remedy="set CLOCHE_HOME to a directory of your own",
            uid=found.st_uid,
        )
    if found.st_mode & 0o022:
        raise PermissionDeniedError(
            f"others may write to the data directory {path} (mode {stat.S_IMODE(found.st_mode):04o})",
            remedy=f"look what is in it, then: chmod 700 {path}",
        )


def _wait_for_lock(lock: int, path: str, someone_listens: Callable[[], bool], patience_seconds: float) -> None:
    give_up = time.monotonic() + patience_seconds
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up or someone_listens():
                said = f"another node (pid {_holder(lock)}) serves {path}"
                raise AlreadyExistsError(said, remedy="cloche node stop", home=path) from None
            time.sleep(0.02)


def _holder(lock: int) -> str:
    try:
        return str(json.loads(os.pread(lock, 4096, 0)).get("pid"))
    except (ValueError, AttributeError):
        return "unknown"


def bind_private(listener: socket.socket, path: str) -> None:
    """Bind a unix socket that is this user's alone (0600) from its first moment on. Raises OSError."""
    before = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
