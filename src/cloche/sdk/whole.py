"""Files of the host that appear under their name as a whole or not at all, with holes where the content is zeros."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Protocol, cast

PIECE_BYTES = 256 << 10
_ZEROS = bytes(PIECE_BYTES)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


@contextmanager
def beside(name: str, parent: int | None = None) -> Iterator[BinaryIO]:
    """A new file that takes the place of `name` as a whole when the body ends well, and else leaves nothing."""
    temporary = os.path.join(os.path.dirname(name), f".cloche-{os.urandom(8).hex()}")
    # from before it is there, since a signal may come as soon as it is
    try:
        with os.fdopen(os.open(temporary, _NEW_FILE, 0o600, dir_fd=parent), "wb", buffering=0) as file:
            yield cast(BinaryIO, file)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)


def pour(source: Source, file: BinaryIO) -> int:
    """Everything of `source` into a new file; a run of zeros becomes a hole. → how many bytes it has."""
    total = 0
    while piece := source.read(PIECE_BYTES):
        total += len(piece)
        if piece == _ZEROS[: len(piece)]:
            file.seek(total)
            continue
        left = memoryview(piece)
        while left:
            left = left[file.write(left) :]
    file.truncate(total)
    return total


def set_time(file: int, modified_at: float) -> None:
    """A time that the file system cannot hold is left out."""
    with suppress(OverflowError, ValueError, OSError):
        os.utime(file, (modified_at, modified_at))
