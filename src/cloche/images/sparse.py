"""Large files that are mostly holes: where their data is, what they hash to, and writing them with the holes kept.

Engines and the service read the same files, a machine's memory and disk, and must agree on their checksums."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from cloche.images.copying import write_at
from cloche.model.snapshot import SnapshotFile

#: holes smaller than this are told as data: an extent has its cost, too
SMALL_HOLE = 64 << 10
CHUNK = 1 << 20
PAGE = 4096
BLOCK = 64 << 10
_ZEROS = bytes(CHUNK)
Extents = list[tuple[int, int]]


def parts(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and end of each part of the first `size` bytes that is not a hole, in order. Raises OSError."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        if start >= size:
            return
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        yield start, end


def extents(descriptor: int, size: int) -> Extents:
    """(offset, length) of the parts, those that only a small hole divides as one. Raises OSError."""
    found: Extents = []
    for start, end in parts(descriptor, size):
        if found and start - sum(found[-1]) < SMALL_HOLE:
            found[-1] = (found[-1][0], end - found[-1][0])
        else:
            found.append((start, end - start))
    return found


def described(path: Path) -> SnapshotFile:
    """Read a file whole. Raises OSError."""
    digest = Digest()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        for begin, length in extents(descriptor, size):
            for at in range(begin, begin + length, CHUNK):
                digest.data(at, os.pread(descriptor, min(CHUNK, begin + length - at), at))
    finally:
        os.close(descriptor)
    return SnapshotFile(name=path.name, size_bytes=size, sha256=digest.value(size))


class Digest:
    """SHA-256 of what a file holds with the places where it holds it: of each block of 64 KiB that is not all zeros its
    offset (8 bytes, big-endian) and its content. Holes cost nothing. The data is told piece by piece, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._block = 0
        self._held = bytearray(BLOCK)

    def data(self, offset: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            block, within = divmod(offset, BLOCK)
            if block != self._block:
                self._take(BLOCK)
                self._block, self._held = block, bytearray(BLOCK)
            size = min(len(left), BLOCK - within)
            self._held[within : within + size] = left[:size]
            left, offset = left[size:], offset + size

    def value(self, size: int) -> str:
        """Of `size` bytes in all."""
        self._take(min(BLOCK, max(0, size - self._block * BLOCK)))
        return self._hash.hexdigest()

    def _take(self, size: int) -> None:
        held = self._held[:size]
        # a file system may keep a hole as zeros, or zeros as a hole
        if held != _ZEROS[:size]:
            self._hash.update((self._block * BLOCK).to_bytes(8, "big"))
            self._hash.update(held)


def write(descriptor: int, offset: int, data: bytes) -> None:
    """Pages of nothing but zeros stay holes. Raises OSError."""
    at = 0
    while at < len(data):
        begin = at
        while at < len(data) and data[at : at + PAGE] != _ZEROS[: min(PAGE, len(data) - at)]:
            at += PAGE
        write_at(descriptor, data[begin:at], offset + begin)
        while at < len(data) and data[at : at + PAGE] == _ZEROS[: min(PAGE, len(data) - at)]:
            at += PAGE
