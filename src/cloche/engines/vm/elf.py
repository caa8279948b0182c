"""The little of ELF that is needed to judge a kernel and its modules: notes and sections. Pure, for hostile bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from cloche.engines.vm.damaged import DamagedError

MAGIC = b"\x7fELF"
MACHINES = {"x86_64": 62, "aarch64": 183}
PT_NOTE = 4
MAX_HEADERS = 4096


class _Head(NamedTuple):
    machine: int
    phoff: int
    shoff: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int


def machine(data: bytes) -> int:
    """Raises DamagedError for what is no 64-bit little-endian ELF file."""
    return _head(data).machine


def notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """(name without its NUL, type, description) of every note of the program headers."""
    head = _head(data)
    for at in _table(data, head.phoff, head.phentsize, head.phnum, 56):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", data, at)
        if kind == PT_NOTE:
            yield from _notes(_part(data, offset, size))


def section(data: bytes, wanted: bytes) -> bytes:
    """The content of the section of this name; b"" when there is none."""
    head = _head(data)
    headers = [
        struct.unpack_from("<IIQQQQ", data, at)
        for at in _table(data, head.shoff, head.shentsize, head.shnum, 64)
    ]  # fmt: skip
    if head.shstrndx >= len(headers):
        raise DamagedError("an ELF file without names")
    names = _part(data, *headers[head.shstrndx][4:6])
    for name, _, _, _, offset, size in headers:
        end = names.find(b"\0", name)
        if end >= 0 and names[name:end] == wanted:
            return _part(data, offset, size)
    return b""


def _head(data: bytes) -> _Head:
    if len(data) < 64 or data[:6] != MAGIC + b"\x02\x01":
        raise DamagedError("it is no 64-bit ELF file")
    fields = struct.unpack_from("<HHIQQQIHHHHHH", data, 16)
    return _Head(fields[1], fields[4], fields[5], *fields[8:13])


def _table(data: bytes, offset: int, entry: int, count: int, smallest: int) -> Iterator[int]:
    if not count:
        return
    if entry < smallest or count > MAX_HEADERS or offset + entry * count > len(data):
        raise DamagedError("an ELF file whose headers lie outside of it")
    yield from range(offset, offset + entry * count, entry)


def _part(data: bytes, offset: int, size: int) -> bytes:
    if offset + size > len(data):
        raise DamagedError("an ELF file whose parts lie outside of it")
    return data[offset : offset + size]


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, at)
        name_end = at + 12 + name_size
        begin = at + 12 + (name_size + 3 & ~3)
        if begin + size > len(data):
            return
        yield data[at + 12 : name_end].rstrip(b"\0"), kind, data[begin : begin + size]
        at = begin + (size + 3 & ~3)
