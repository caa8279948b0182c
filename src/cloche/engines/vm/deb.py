"""Debian packages, as far as a few of their files are wanted: an `ar` archive with a compressed tar in it.

Nothing is ever extracted to where the package says; the caller names what it wants and gets its bytes."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO, cast

from cloche.engines.vm.damaged import DamagedError
from cloche.engines.vm.decompress import Inflated, Readable

AR_MAGIC = b"!<arch>\n"
HEADER_BYTES = 60
MAX_MEMBERS = 16
#: of a package's files together, and of one that is wanted
MAX_UNPACKED_BYTES = 2 << 30
MAX_FILE_BYTES = 256 << 20
MAX_FILES = 200_000


def files(package: BinaryIO, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """(path without "./", content) of the regular files that are wanted, as the package has them. Raises
    DamagedError."""
    try:
        with tarfile.open(fileobj=cast(IO[bytes], _data(package)), mode="r|") as archive:
            for count, entry in enumerate(archive):
                if count >= MAX_FILES:
                    raise DamagedError("the package has too many files")
                path = entry.name.removeprefix("./")
                if entry.isreg() and wanted(path):
                    yield path, _content(archive, entry)
    except (tarfile.TarError, EOFError, UnicodeError, OverflowError) as error:
        raise DamagedError(f"the package's files cannot be read: {error}") from error


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    if not 0 <= entry.size <= MAX_FILE_BYTES or entry.issparse():
        raise DamagedError(f"{entry.name[:100]!r} is too large")
    file = archive.extractfile(entry)
    content = file.read() if file is not None else b""
    if len(content) != entry.size:
        raise DamagedError("the package is cut off")
    return content


def _data(package: BinaryIO) -> Readable:
    """The package's data.tar, unpacked as it is read."""
    if package.read(len(AR_MAGIC)) != AR_MAGIC:
        raise DamagedError("it is no Debian package")
    for _ in range(MAX_MEMBERS):
        name, size = _member(package.read(HEADER_BYTES))
        if name == "data.tar":
            return _Part(package, size)
        if name.startswith("data.tar."):
            return Inflated(_Part(package, size), MAX_UNPACKED_BYTES)
        _Part(package, size + size % 2).skip()
    raise DamagedError("the package has no data.tar among its first parts")


def _member(header: bytes) -> tuple[str, int]:
    if len(header) != HEADER_BYTES or header[58:] != b"`\n":
        raise DamagedError("the package is cut off or has no data.tar")
    size = header[48:58].strip()
    if not size.isdigit():
        raise DamagedError("a part of the package has no size")
    return header[:16].decode("latin-1").strip().removesuffix("/"), int(size)


class _Part:
    """So many bytes of a file, from where it is."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1, /) -> bytes:
        size = self._left if size < 0 else min(size, self._left)
        data = self._file.read(size)
        self._left -= len(data)
        return data

    def skip(self) -> None:
        while self._left:
            if not self.read(1 << 20):
                raise DamagedError("the package is cut off")
