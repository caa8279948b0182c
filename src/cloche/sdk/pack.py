"""A tree of the host as a tar stream. Links of the host are packed as links and never followed."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from cloche.model.errors import InvalidError, NotFoundError, PermissionDeniedError
from cloche.sdk.values import CopyReport

PIECE_BYTES = 256 << 10


def tree(root: str, report: CopyReport, name: str = "") -> Iterator[bytes]:
    """The tar stream of everything below `root`, with names relative to it, or of it and that as `name`. Counts into
    `report`, which also takes what cannot be copied. Raises InvalidError for a file that shrinks meanwhile,
    PermissionDeniedError."""
    with _host_errors():
        if name:
            yield from _entry(root, name, report)
        for path, below in _walk(root, f"{name}/" if name else ""):
            yield from _entry(path, below, report)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def single(path: str, name: str, report: CopyReport) -> Iterator[bytes]:
    """The tar stream of one file, named `name`. Raises as `tree` and `open_file` do."""
    open_file(path).close()
    with _host_errors():
        yield from _entry(path, name, report)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """A file's bytes from where it stands."""
    while piece := file.read(PIECE_BYTES):
        yield piece


def open_file(path: str) -> BinaryIO:
    """A regular file for reading. Raises InvalidError for anything else, NotFoundError, PermissionDeniedError."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except FileNotFoundError as error:
        raise NotFoundError(f"no such file on the host: {path}") from error
    except PermissionError as error:
        raise PermissionDeniedError(f"cannot read {path} on the host") from error
    except OSError as error:
        raise InvalidError(f"cannot read {path} on the host: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InvalidError(f"{path} is neither a file nor a directory")
    return file


def mode_of(file: BinaryIO) -> int:
    return stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o777


@contextmanager
def _host_errors() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise PermissionDeniedError(f"cannot read {error.filename} on the host") from error
    except FileNotFoundError as error:
        raise InvalidError(f"{error.filename} went away while it was copied", remedy="copy it again") from error


def _walk(root: str, prefix: str) -> Iterator[tuple[str, str]]:
    left = [(root, prefix)]
    while left:
        folder, prefix = left.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                name = f"{prefix}{entry.name}"
                yield entry.path, name
                if entry.is_dir(follow_symlinks=False):
                    left.append((entry.path, f"{name}/"))


def _entry(path: str, name: str, report: CopyReport) -> Iterator[bytes]:
    info = _describe(path, name)
    if info is None:
        report.refused.append((name, "neither a file, a directory nor a link"))
        return
    report.files += not info.isdir()
    report.bytes += info.size
    if info.isreg():
        yield from _file(path, info)
    else:
        yield _header(info)


def _describe(path: str, name: str) -> tarfile.TarInfo | None:
    status = os.lstat(path)
    kinds = {stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE}
    kind = kinds.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, stat.S_IMODE(status.st_mode) & 0o777, status.st_mtime
    info.size = status.st_size if kind == tarfile.REGTYPE else 0
    info.linkname = os.readlink(path) if kind == tarfile.SYMTYPE else ""
    return info


def _file(path: str, info: tarfile.TarInfo) -> Iterator[bytes]:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        info.size = left = os.fstat(file.fileno()).st_size
        yield _header(info)
        while left:
            piece = file.read(min(PIECE_BYTES, left))
            if not piece:
                raise InvalidError(f"{path} became shorter while it was copied", remedy="copy it again")
            left -= len(piece)
            yield piece
    if info.size % tarfile.BLOCKSIZE:
        yield b"\0" * (-info.size % tarfile.BLOCKSIZE)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
