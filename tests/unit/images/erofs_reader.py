"""Reads an uncompressed erofs image, the way that the kernel does, for tests: slow, strict and small."""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from pathlib import Path

BLOCK = 4096


@dataclass(frozen=True)
class Inode:
    slot: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    links: int
    content: bytes

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Image:
    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        magic, self.root, self.inodes, blocks = struct.unpack_from("<I10xHQ12xI", self.data, 1024)
        assert magic == 0xE0F5E1E2
        assert blocks * BLOCK == len(self.data)
        self.uuid = self.data[1024 + 48 : 1024 + 64]

    def inode(self, slot: int) -> Inode:
        at = slot * 32
        form, xattrs, mode, size, block, _, uid, gid, seconds, nanos, links = struct.unpack_from(
            "<HHH2xQIIIIQII", self.data, at
        )
        assert form in (1, 5) and xattrs == 0
        inline = size % BLOCK if form == 5 else 0
        assert at % BLOCK + 64 + inline <= BLOCK, "the inline tail crosses a block"
        begin = block * BLOCK
        content = self.data[begin : begin + size - inline] + self.data[at + 64 : at + 64 + inline]
        assert len(content) == size
        return Inode(slot, mode, uid, gid, seconds * 1_000_000_000 + nanos, links, content)

    def names(self, inode: Inode) -> list[tuple[bytes, int, int]]:
        """Name, slot and file type, in the order of the disk."""
        found = []
        for begin in range(0, len(inode.content), BLOCK):
            block = inode.content[begin : begin + BLOCK]
            count = struct.unpack_from("<QH", block)[1] // 12
            heads = [struct.unpack_from("<QHBx", block, 12 * i) for i in range(count)]
            ends = [head[1] for head in heads[1:]] + [len(block)]
            found += [
                (block[at:end].rstrip(b"\0"), slot, kind) for (slot, at, kind), end in zip(heads, ends, strict=True)
            ]
        assert [each[0] for each in found] == sorted(each[0] for each in found), "the kernel searches by bisection"
        return found

    def files(self) -> dict[bytes, Inode]:
        """Every path, the root being b""."""
        found, pending = {}, [(b"", self.root, self.root)]
        while pending:
            path, slot, parent = pending.pop()
            inode = found[path] = self.inode(slot)
            if not inode.is_dir:
                continue
            names = {name: (child, kind) for name, child, kind in self.names(inode)}
            assert names.pop(b".") == (slot, 2) and names.pop(b"..") == (parent, 2)
            pending += [(path + b"/" + name if path else name, child, slot) for name, (child, _) in names.items()]
        return found
