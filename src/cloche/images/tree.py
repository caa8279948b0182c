"""A tree of files as it will be in an image: what is taken of the host, as whose, and a fingerprint of all of it.

`scan` is the only I/O here. A node remembers by `Stamp` which file it stands for, so whoever copies the content later
notices when it is not the same file any more. Paths are bytes: a name need not be text.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from cloche.images.host import Entry

Kind = Literal["dir", "file", "link"]
#: raise it when the same files on the host make another image
VERSION = 1


class Stamp(NamedTuple):
    """Changes with everything that can happen to a file but reading it. `ctime_ns` cannot be set by anybody."""

    inode: int
    mtime_ns: int
    ctime_ns: int
    size: int


@dataclass(slots=True, eq=False)
class Node:
    """One inode. The same node under two names is a hard link. `content` is a link's target, or that of a file which
    is nowhere on the host (`source` is None)."""

    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    source: bytes | None = None
    stamp: Stamp | None = None
    content: bytes = b""
    children: dict[bytes, Node] = field(default_factory=dict)


class Owner(NamedTuple):
    uid: int
    gid: int
    mode: int


@dataclass
class LeftOut:
    """What did not go in: a path → why. At most `most` paths are kept, all are counted."""

    most: int = 1000
    paths: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, path: bytes, why: str) -> None:
        self.counts[why] = self.counts.get(why, 0) + 1
        if len(self.paths) < self.most:
            self.paths[os.fsdecode(path)] = why


@dataclass(frozen=True)
class Rules:
    """`emptied`: of a directory's path below the source, why nothing in it is taken, or None. `owner`: as whose a file
    goes in. `only_public`: what others on the host may not read, or a directory that they may not enter, stays out."""

    emptied: Callable[[bytes], str | None]
    owner: Callable[[bytes, os.stat_result], Owner]
    only_public: bool


def scan(source: bytes, rules: Rules, left: LeftOut) -> Node | None:
    """What is at `source`, with everything below it that the rules let in; None when that is nothing. What vanishes
    while this looks was never there. Raises nothing for what cannot be read: it is left out by name."""
    try:
        found = os.stat(source)
    except OSError:
        return None
    linked: dict[tuple[int, int], Node] = {}
    top = _node(source, b"", found, rules, left, linked)
    pending = [(source, b"", top)] if top and top.kind == "dir" else []
    while pending:
        place, inside, parent = pending.pop()
        for entry, status in _entries(place, left):
            below = os.path.join(inside, entry.name)
            child = _node(entry.path, below, status, rules, left, linked)
            if child is None:
                continue
            parent.children[entry.name] = child
            if child.kind == "dir" and not _emptied(entry.path, below, rules, left):
                pending.append((entry.path, below, child))
    return top


def _entries(place: bytes, left: LeftOut) -> Iterator[tuple[os.DirEntry[bytes], os.stat_result]]:
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                try:
                    yield entry, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:  # a path that is too long, a file system that is broken
                    left.add(entry.path, f"cannot be read: {error.strerror}")
    except FileNotFoundError:
        return
    except OSError as error:
        left.add(place, f"cannot be read: {error.strerror}")


def _emptied(place: bytes, below: bytes, rules: Rules, left: LeftOut) -> bool:
    why = rules.emptied(below)
    if why is not None:
        left.add(place, why)
    return why is not None


def _node(
    place: bytes, below: bytes, found: os.stat_result, rules: Rules, left: LeftOut, linked: dict[tuple[int, int], Node]
) -> Node | None:
    kind = _kind(found.st_mode)
    why = "is no file, directory or link" if kind is None else _unreadable(place, found.st_mode, rules)
    if kind is None or why is not None:
        left.add(place, str(why))
        return None
    known = linked.get((found.st_dev, found.st_ino)) if found.st_nlink > 1 and kind != "dir" else None
    if known is not None:
        return known
    made = _made(kind, place, found, rules.owner(below, found))
    if found.st_nlink > 1 and kind != "dir":
        linked[found.st_dev, found.st_ino] = made
    return made


def _kind(mode: int) -> Kind | None:
    if stat.S_ISDIR(mode):
        return "dir"
    if stat.S_ISREG(mode):
        return "file"
    return "link" if stat.S_ISLNK(mode) else None


def _unreadable(place: bytes, mode: int, rules: Rules) -> str | None:
    if stat.S_ISLNK(mode):
        return None
    needed = 0o005 if stat.S_ISDIR(mode) else 0o004
    if mode & needed == needed:
        return None
    if rules.only_public:
        return "is private: others on this machine may not read it"
    return None if os.access(place, os.R_OK) else "cannot be read: Permission denied"


def _made(kind: Kind, place: bytes, found: os.stat_result, owner: Owner) -> Node:
    node = Node(kind, owner.mode, owner.uid, owner.gid, found.st_mtime_ns)
    if kind == "file":
        node.source, node.size, node.stamp = place, found.st_size, stamp_of(found)
    elif kind == "link":
        node.content = os.readlink(place)
        node.size, node.mode = len(node.content), 0o777
    return node


def stamp_of(found: os.stat_result) -> Stamp:
    return Stamp(found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def skeleton(entries: Iterable[Entry]) -> Node:
    """A root that holds these entries. Parents come before what is in them."""
    root = Node("dir")
    for entry in entries:
        content = os.fsencode(entry.target if entry.kind == "link" else entry.content)
        kinds: dict[str, Kind] = {"dir": "dir", "link": "link"}
        mode = 0o777 if entry.kind == "link" else entry.mode
        node = Node(kinds.get(entry.kind, "file"), mode, entry.uid, entry.gid, content=content, size=len(content))
        graft(root, os.fsencode(entry.path), node)
    return root


def graft(root: Node, path: bytes, node: Node) -> None:
    """Put the node at this place; directories on the way are made when they are missing. What a directory at that
    place holds already, and the new one does not, stays."""
    *parents, name = [part for part in path.split(b"/") if part]
    for part in parents:
        root = root.children.setdefault(part, Node("dir"))
    there = root.children.get(name)
    if there is not None and there.kind == node.kind == "dir":
        node.children = there.children | node.children
    root.children[name] = node


def walk(root: Node) -> Iterator[tuple[bytes, Node]]:
    """Every name with its node, in an order that depends on nothing but the names; a directory before what it holds."""
    pending = [(b"", root)]
    while pending:
        path, node = pending.pop()
        yield path, node
        before = path + b"/" if path else b""
        pending.extend((before + name, child) for name, child in sorted(node.children.items(), reverse=True))


def tree_bytes(root: Node) -> int:
    """Content of all files below; a hard link counts once."""
    sizes: dict[int, int] = {}
    pending = [root]
    while pending:
        node = pending.pop()
        sizes[id(node)] = node.size
        pending.extend(node.children.values())
    return sum(sizes.values())


def fingerprint(root: Node) -> str:
    """64 hexadecimal digits that change when anything changes that goes into the image. Contents are known by their
    stamps: reading them would take as long as building."""
    digest = hashlib.sha256(b"cloche root %d\0" % VERSION)
    for path, node in walk(root):
        numbers = (len(path), len(node.content), node.mode, node.uid, node.gid, node.mtime_ns, *(node.stamp or ()))
        digest.update(f"{node.kind} {' '.join(map(str, numbers))}\0".encode() + path + node.content)
    return digest.hexdigest()
