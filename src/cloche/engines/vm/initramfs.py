"""The first file system of a VM: the guest as /init, the modules that it loads, and the two devices that it needs
before it has mounted anything. Pure: the same input gives the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cloche.engines.vm.modules import OPTIONAL

#: a newc archive is padded so far by everybody who writes one
BLOCK_BYTES = 512
DIRECTORIES = ("dev", "disk", "lower", "modules", "proc", "root", "sys")
DEVICES = {"dev/console": (0o20600, 5, 1), "dev/null": (0o20666, 1, 3)}
END = "TRAILER!!!"


class Entry(NamedTuple):
    """`device`: major and minor number of a node."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def build(guest: bytes, modules: Sequence[tuple[str, bytes]]) -> bytes:
    """A cpio archive, uncompressed: the kernel of a VM unpacks it faster than anything that is smaller.

    `modules`: (name, content), in the order in which they load. Those of a group that a kernel may lack have a list of
    their own."""
    return archive(sorted(_entries(guest, modules)))


def archive(entries: Sequence[Entry]) -> bytes:
    """Written as newc; the inode numbers are the places in the archive, every time is 0, root owns everything."""
    out = bytearray()
    for inode, entry in enumerate(entries, 1):
        out += _header(entry, inode)
        out += entry.content
        out += bytes(-len(out) % 4)
    out += _header(Entry(END, 0), 0)
    out += bytes(-len(out) % BLOCK_BYTES)
    return bytes(out)


def _entries(guest: bytes, modules: Sequence[tuple[str, bytes]]) -> Iterator[Entry]:
    yield from (Entry(name, 0o40755) for name in DIRECTORIES)
    yield from (Entry(name, mode, b"", (major, minor)) for name, (mode, major, minor) in DEVICES.items())
    yield Entry("init", 0o100755, guest)
    yield from (Entry(f"modules/{name}.ko", 0o100644, content) for name, content in modules)
    yield from _orders([name for name, _ in modules])


def _orders(names: Sequence[str]) -> Iterator[Entry]:
    grouped = {name for group in OPTIONAL.values() for name in group}
    yield _order("order", [name for name in names if name not in grouped])
    for file, group in OPTIONAL.items():
        if found := [name for name in names if name in group]:
            yield _order(file, found)


def _order(file: str, names: Sequence[str]) -> Entry:
    return Entry(f"modules/{file}", 0o100644, "".join(f"{name}.ko\n" for name in names).encode("ascii"))


def _header(entry: Entry, inode: int) -> bytes:
    name = entry.name.encode("ascii") + b"\0"
    links = 2 if entry.mode & 0o40000 and not entry.mode & 0o100000 else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return header + bytes(-len(header) % 4)
