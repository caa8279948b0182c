"""Snapshots between the node and files of this machine, with a line that says how far they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cloche.cli import attach
from cloche.cli.progress import Meter, shown
from cloche.model.errors import InvalidError, NotFoundError, PermissionDeniedError

CHUNK = 1 << 20


def write(content: Iterator[bytes], file: str) -> None:
    """To a file that is there only when it is whole, or to stdout (-). Raises InvalidError for a terminal,
    PermissionDeniedError."""
    meter = Meter(file)
    if file == "-":
        if os.isatty(1):
            raise InvalidError("a snapshot would only garble the terminal", remedy="cloche snapshot export NAME FILE")
        with shown(lambda: str(meter)):
            for piece in meter.counted(content):
                attach.write_all(1, piece)
        return
    half = f"{file}.half-{os.getpid()}"
    try:
        with shown(lambda: str(meter)):
            _write(half, meter.counted(content))
        os.replace(half, file)
    except OSError as error:
        raise PermissionDeniedError(f"cannot write {file}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            os.unlink(half)


@contextmanager
def read(file: str) -> Iterator[Iterator[bytes]]:
    """The content of a file, or of stdin (-). Raises InvalidError for a terminal, NotFoundError."""
    if file == "-" and os.isatty(0):
        raise InvalidError("`-` reads a snapshot from stdin, and that is a terminal",
                           remedy="cloche snapshot import FILE")  # fmt: skip
    total = None if file == "-" else _size(file)
    meter = Meter(file, total)
    with shown(lambda: str(meter)):
        yield meter.counted(attach.read_stdin() if file == "-" else _pieces(file))


def _write(path: str, content: Iterator[bytes]) -> None:
    # what is in a memory is nobody else's
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for piece in content:
            attach.write_all(descriptor, piece)
    finally:
        os.close(descriptor)


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError as error:
        raise NotFoundError(f"cannot read {file}: {error.strerror}") from error


def _pieces(file: str) -> Iterator[bytes]:
    try:
        with open(file, "rb") as opened:
            while piece := opened.read(CHUNK):
                yield piece
    except OSError as error:
        raise NotFoundError(f"cannot read {file}: {error.strerror}") from error
