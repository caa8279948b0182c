"""Copies ranges of bytes between files: contents of images, parts of disks that are no holes.

By reading and writing, with one buffer: where nothing can be shared, `copy_file_range` takes twice the processor time
(it moves page by page through a pipe), and where it can, whoever copies a whole file asks for that first.
"""

from __future__ import annotations

import os

BUFFER_BYTES = 1 << 20


def copy_range(source: int, target: int, count: int, source_at: int, target_at: int) -> None:
    """Ends early when the source does. Raises OSError of either."""
    buffer = memoryview(bytearray(min(count, BUFFER_BYTES)))
    while count > 0:
        moved = os.preadv(source, [buffer[:count]], source_at)
        if moved == 0:
            return
        write_at(target, buffer[:moved], target_at)
        count, source_at, target_at = count - moved, source_at + moved, target_at + moved


def write_at(fd: int, data: bytes | bytearray | memoryview, at: int) -> None:
    """All of it, also when the kernel takes less at once."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, at)
        view, at = view[count:], at + count
