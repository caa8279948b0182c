"""Copies bytes between files, in the kernel where it can: whole ranges of images and of disks."""

from __future__ import annotations

import errno
import os

CHUNK = 16 << 20


def copy_range(source: int, target: int, count: int, source_at: int, target_at: int) -> None:
    """Copy bytes between two files, in the kernel where it can. Ends early when the source does."""
    while count > 0:
        moved = _copy_some(source, target, min(count, CHUNK), source_at, target_at)
        if moved == 0:
            return
        count, source_at, target_at = count - moved, source_at + moved, target_at + moved


def _copy_some(source: int, target: int, count: int, source_at: int, target_at: int) -> int:
    try:
        moved = os.copy_file_range(source, target, count, source_at, target_at)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            raise
        moved = 0
    if moved:
        return moved
    # nothing moved is the end of the file, or a file system that says so of every file
    data = os.pread(source, min(count, 1 << 20), source_at)
    write_at(target, data, target_at)
    return len(data)


def write_at(fd: int, data: bytes | bytearray, at: int) -> None:
    """All of it, also when the kernel takes less at once."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, at)
        view, at = view[count:], at + count
