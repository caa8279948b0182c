"""Writes an erofs image, uncompressed: the same tree makes the same bytes, for root and for everybody.

Why not mkfs.erofs: the one that is common (1.5) cannot give a file another owner than the one on the disk, takes no
list of what to leave out and cannot know that a file was replaced while it read. The format without compression is
three records, so writing it takes less code than steering that program (docs/decisions has the whole argument).

    block 0             the superblock, at byte 1024
    blocks 1 …          inodes (64 bytes each), behind each the end of its content if that is small
    the blocks after    contents in whole blocks

Names and numbers are those of the kernel's fs/erofs/erofs_fs.h.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cloche.images.copying import copy_range, write_at
from cloche.images.tree import Node, stamp_of, walk

BLOCK = 4096
SLOT = 32  # an inode's number counts these
INODE_BYTES = 64
MAGIC = 0xE0F5E1E2
SUPER_AT = 1024
#: a tail up to this lies behind its inode; longer ones take a block, or the gaps between inodes cost more than blocks
SMALL_TAIL = 2048
LARGEST_TAIL = BLOCK - INODE_BYTES
PENDING_BYTES = 1 << 20
DIRENT = struct.Struct("<QHBx")
INODE = struct.Struct("<HHHHQIIIIQII16x")
SUPER = struct.Struct("<IIIBBHQQIIII16s16sI44x")
EXTENDED, INLINE = 1, 2 << 1
#: without waiting, should a pipe lie there by now
READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
FILE_TYPE = {"file": 1, "dir": 2, "link": 7}
KIND_BITS = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "link": stat.S_IFLNK}

Written = Callable[[int, int], None]
"""Bytes of contents that are written, and how many there will be."""


class ChangedError(Exception):
    """A file is not the one any more that the tree was made of; the tree must be made again."""


@dataclass(slots=True)
class Place:
    """Where a node lies. `blocks` whole blocks of content begin at `block`; `inline` more bytes follow the inode."""

    number: int
    at: int
    size: int
    blocks: int
    inline: int
    links: int
    parent: int
    block: int = 0


@dataclass
class Plan:
    """`nodes` in the order of their inodes, `places` by the node's id()."""

    nodes: list[Node] = field(default_factory=list)
    places: dict[int, Place] = field(default_factory=dict)
    blocks: int = 0

    @property
    def bytes(self) -> int:
        return self.blocks * BLOCK


def plan(root: Node) -> Plan:
    """Decide where everything goes. No I/O."""
    made, end = Plan(), BLOCK
    parents = {id(root): id(root)}
    for _, node in walk(root):
        if id(node) in made.places:
            made.places[id(node)].links += 1
            continue
        place = _place(node, end)
        place.number, place.parent = len(made.nodes) + 1, parents[id(node)]
        end = _slot(place.at + INODE_BYTES + place.inline)
        made.nodes.append(node)
        made.places[id(node)] = place
        parents |= {id(child): id(node) for child in node.children.values()}
    _place_blocks(made, -(-end // BLOCK))
    return made


def _place(node: Node, end: int) -> Place:
    size = _directory_bytes(node) if node.kind == "dir" else node.size
    tail = size % BLOCK
    inline = tail if tail <= (SMALL_TAIL if node.kind == "file" else LARGEST_TAIL) else 0
    fits = end % BLOCK + INODE_BYTES + inline <= BLOCK
    blocks = size // BLOCK if inline else -(-size // BLOCK)
    links = 2 + sum(child.kind == "dir" for child in node.children.values()) if node.kind == "dir" else 1
    return Place(0, end if fits else -(-end // BLOCK) * BLOCK, size, blocks, inline, links, 0)


def _slot(at: int) -> int:
    return -(-at // SLOT) * SLOT


def _place_blocks(made: Plan, block: int) -> None:
    for place in made.places.values():
        if place.blocks:
            place.block, block = block, block + place.blocks
    made.blocks = block


def _directory_blocks(node: Node) -> Iterator[list[bytes]]:
    """The names of each block, in the order in which the kernel searches them."""
    names: list[bytes] = []
    used = 0
    for name in sorted([*node.children, b".", b".."]):
        needed = DIRENT.size + len(name)
        if used + needed > BLOCK:
            yield names
            names, used = [], 0
        names.append(name)
        used += needed
    yield names


def _directory_bytes(node: Node) -> int:
    size = 0
    for names in _directory_blocks(node):
        size = -(-size // BLOCK) * BLOCK + sum(DIRENT.size + len(name) for name in names)
    return size


def _directory(node: Node, made: Plan) -> bytes:
    here = made.places[id(node)]
    up = made.places[here.parent]
    blocks = []
    for names in _directory_blocks(node):
        head, at = b"", DIRENT.size * len(names)
        for name in names:
            child = node.children.get(name)
            place = made.places[id(child)] if child else (here if name == b"." else up)
            head += DIRENT.pack(place.at // SLOT, at, FILE_TYPE[child.kind if child else "dir"])
            at += len(name)
        blocks.append((head + b"".join(names)).ljust(BLOCK, b"\0"))
    return b"".join(blocks)[: here.size]


def _inode(node: Node, place: Place) -> bytes:
    form = EXTENDED | (INLINE if place.inline else 0)
    seconds, nanoseconds = divmod(node.mtime_ns, 1_000_000_000)
    mode = KIND_BITS[node.kind] | (node.mode & 0o7777)
    return INODE.pack(
        form, 0, mode, 0, place.size, place.block, place.number, node.uid, node.gid,
        seconds & (1 << 64) - 1, nanoseconds, place.links,
    )  # fmt: skip


def _superblock(made: Plan, root: Node, uuid: bytes, label: bytes) -> bytes:
    root_slot = made.places[id(root)].at // SLOT
    return SUPER.pack(
        MAGIC, 0, 0, BLOCK.bit_length() - 1, 0, root_slot, len(made.nodes), 0, 0, made.blocks, 0, 0, uuid, label, 0
    )


def write(fd: int, root: Node, made: Plan, uuid: bytes, written: Written = lambda done, total: None) -> None:
    """Write the image to an empty file that is open for writing. `uuid` is 16 bytes. Memory does not grow with the
    contents. Raises ChangedError, and OSError of the target."""
    os.ftruncate(fd, made.bytes)
    total, done = sum(place.blocks for place in made.places.values()) * BLOCK, 0
    write_at(fd, _superblock(made, root, uuid, b"cloche"), SUPER_AT)
    pending, begin = bytearray(), BLOCK
    for node in made.nodes:
        place = made.places[id(node)]
        pending += bytes(place.at - begin - len(pending)) + _inode(node, place)
        pending += _contents(fd, node, place, made)
        done += place.blocks * BLOCK
        if len(pending) > PENDING_BYTES:
            write_at(fd, pending, begin)
            begin, pending = begin + len(pending), bytearray()
            written(done, total)
    write_at(fd, pending, begin)
    written(total, total)


def _contents(fd: int, node: Node, place: Place, made: Plan) -> bytes:
    """Write the node's whole blocks, and return what belongs behind its inode."""
    if node.source is not None:
        return _copy(fd, node, place)
    content = _directory(node, made) if node.kind == "dir" else node.content
    cut = place.size - place.inline
    write_at(fd, content[:cut], place.block * BLOCK)
    return content[cut:]


def _copy(fd: int, node: Node, place: Place) -> bytes:
    assert node.source is not None
    try:
        source = os.open(node.source, READING)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ChangedError(f"{os.fsdecode(node.source)}: {error.strerror}") from error
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ChangedError(f"{os.fsdecode(node.source)}: is a link by now") from error
    try:
        _check_same(source, node)
        copy_range(source, fd, node.size - place.inline, 0, place.block * BLOCK)
        tail = os.pread(source, place.inline, node.size - place.inline) if place.inline else b""
        _check_same(source, node)
        return tail
    finally:
        os.close(source)


def _check_same(source: int, node: Node) -> None:
    """Before, or a file that took its place would be read; after, or half of it might be from another time."""
    found = os.fstat(source)
    if not stat.S_ISREG(found.st_mode) or stamp_of(found) != node.stamp:
        raise ChangedError(f"{os.fsdecode(node.source or b'')}: is another file by now")


def check(path: str, expected_bytes: int) -> str | None:
    """What is wrong with an image, by its size and its superblock alone, or None."""
    with open(path, "rb") as image:
        size = os.fstat(image.fileno()).st_size
        head = os.pread(image.fileno(), SUPER.size, SUPER_AT)
    if size != expected_bytes or len(head) < SUPER.size:
        return f"it has {size} bytes instead of {expected_bytes}"
    fields = SUPER.unpack(head)
    return None if fields[0] == MAGIC and fields[9] * BLOCK == size else "its superblock is damaged"
