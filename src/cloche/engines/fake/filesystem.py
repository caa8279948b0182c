"""A file tree in memory: directories, files and links, a size limit, and places where nobody may write."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator

from cloche.model import errors
from cloche.model.file import FileInfo, FileType

HOME = "/home/user"
WRITABLE = (HOME, "/tmp")  # noqa: S108 - a path inside the fake sandbox
UID = 1000
MAX_LINKS = 40
MAX_NAME_BYTES = 255

_inodes = itertools.count(2)


class Node:
    __slots__ = ("children", "data", "inode", "kind", "mode", "modified_at", "target")

    def __init__(self, kind: FileType, mode: int, *, target: str | None = None) -> None:
        self.kind: FileType = kind
        self.mode = mode
        self.target = target
        self.data = b""
        self.children: dict[str, Node] = {}
        self.inode = next(_inodes)
        self.modified_at = time.time()


class Place:
    """Where a path leads: its directory, its last name, and the node there, if there is one."""

    def __init__(self, trail: list[tuple[str, Node]], name: str, node: Node | None) -> None:
        self.parent = trail[-1][1] if trail else None
        self.name = name
        self.node = node
        self.path = "/".join([step for step, _ in trail] + [name]) or "/"

    def existing(self) -> Node:
        if self.node is None:
            raise errors.NotFoundError(f"no such file or directory: {self.path}")
        return self.node


class Filesystem:
    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.root = Node("directory", 0o755)
        for path in ("/home", HOME, "/tmp", "/usr", "/usr/bin", "/etc"):  # noqa: S108
            self._insert(self.find(path), Node("directory", 0o755))

    def used_bytes(self) -> int:
        return sum(len(node.data) for _, node in tree("/", self.root))

    def find(self, path: str, *, follow: bool = True, base: str = HOME) -> Place:
        """Walk `path` as the kernel would. Raises NotFoundError when a directory on the way is missing."""
        if "\0" in path or not path:
            raise errors.InvalidError("a path may be neither empty nor contain NUL", field="path")
        parts, trail, links = deque(absolute(path, base).split("/")), [("", self.root)], 0
        while parts:
            name = parts.popleft()
            if name in ("", "."):
                continue
            if name == "..":
                del trail[max(1, len(trail) - 1) :]
                continue
            child = _directory(trail).children.get(name)
            if child is None:
                return self._missing(trail, name, parts)
            if child.kind == "symlink" and (parts or follow):
                links += 1
                _enter_link(child, trail, parts, links)
                continue
            trail.append((name, child))
        return Place(trail[:-1], trail[-1][0], trail[-1][1])

    def info(self, place: Place) -> FileInfo:
        return describe(place.path, place.existing())

    def write(self, path: str, data: bytes, *, mode: int | None = None, parents: bool = True) -> FileInfo:
        """Replace or make a file. Raises NoSpaceError, PermissionDeniedError, InvalidError for a directory."""
        if parents:
            self.make_dir(absolute(path).rpartition("/")[0] or "/", parents=True)
        place = self.find(path)
        if place.node is not None and place.node.kind != "file":
            raise errors.InvalidError(f"{place.path} is a {place.node.kind}, not a file", field="path")
        self._require_writable(place)
        self._require_room(len(data) - len(place.node.data if place.node else b""))
        node = place.node or self._insert(place, Node("file", 0o644))
        node.data, node.modified_at = data, time.time()
        node.mode = node.mode if mode is None else mode
        return describe(place.path, node)

    def make_dir(self, path: str, *, mode: int | None = None, parents: bool = False) -> FileInfo:
        if parents:
            parent = absolute(path).rpartition("/")[0]
            if parent:
                self.make_dir(parent, parents=True)
        place = self.find(path)
        if place.node is not None:
            if parents and place.node.kind == "directory":
                return describe(place.path, place.node)
            raise errors.AlreadyExistsError(f"{place.path} exists")
        self._require_writable(place)
        return describe(place.path, self._insert(place, Node("directory", 0o755 if mode is None else mode)))

    def symlink(self, path: str, target: str) -> FileInfo:
        place = self.find(path, follow=False)
        if place.node is not None:
            raise errors.AlreadyExistsError(f"{place.path} exists")
        self._require_writable(place)
        return describe(place.path, self._insert(place, Node("symlink", 0o777, target=target)))

    def move(self, source: str, to: str, *, overwrite: bool = False) -> FileInfo:
        old, new = self.find(source, follow=False), self.find(to, follow=False)
        node = old.existing()
        if new.node is not None and not overwrite:
            raise errors.AlreadyExistsError(f"{new.path} exists")
        if (new.path + "/").startswith(old.path + "/"):
            raise errors.InvalidError(f"{old.path} cannot be moved into itself", field="to")
        self._require_writable(old)
        self._require_writable(new)
        assert old.parent is not None
        del old.parent.children[old.name]
        return describe(new.path, self._insert(new, node))

    def remove(self, path: str, *, recursive: bool = False) -> None:
        place = self.find(path, follow=False)
        node = place.existing()
        self._require_writable(place)
        if node.children and not recursive:
            raise errors.WrongStateError(f"{place.path} is not empty", remedy="ask with recursive")
        assert place.parent is not None
        del place.parent.children[place.name]

    def chmod(self, path: str, mode: int, *, recursive: bool = False) -> FileInfo:
        place = self.find(path)
        self._require_writable(place)
        for _, node in tree(place.path, place.existing()) if recursive else [(path, place.existing())]:
            node.mode = mode
        return self.info(place)

    def _insert(self, place: Place, node: Node) -> Node:
        assert place.parent is not None
        if len(place.name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
            raise errors.InvalidError(f"a name is at most {MAX_NAME_BYTES} bytes", field="path")
        place.parent.children[place.name] = node
        return node

    def _missing(self, trail: list[tuple[str, Node]], name: str, rest: deque[str]) -> Place:
        if any(part not in ("", ".") for part in rest):
            raise errors.NotFoundError(f"no such directory: {Place(trail, name, None).path}")
        return Place(trail, name, None)

    def _require_writable(self, place: Place) -> None:
        if place.parent is None or not any(place.path.startswith(root + "/") for root in WRITABLE):
            raise errors.PermissionDeniedError(f"{place.path} is not the user's to change")

    def _require_room(self, more: int) -> None:
        if more > 0 and self.used_bytes() + more > self.limit_bytes:
            raise errors.NoSpaceError(f"the sandbox's disk of {self.limit_bytes} bytes is full")


def absolute(path: str, base: str = HOME) -> str:
    if path == "~" or path.startswith("~/"):
        return HOME + path[1:]
    return path if path.startswith("/") else f"{base}/{path}"


def describe(path: str, node: Node) -> FileInfo:
    return FileInfo(
        path=path, name=path.rpartition("/")[2] or "/", type=node.kind, size=len(node.data), mode=node.mode, uid=UID,
        gid=UID, user="user", group="user", modified_at=node.modified_at, target=node.target, inode=node.inode,
    )  # fmt: skip


def tree(path: str, node: Node, depth: int | None = None) -> Iterator[tuple[str, Node]]:
    """The node and what is below it, parents first. `depth` 0: the node alone."""
    yield path, node
    if depth == 0:
        return
    for name, child in sorted(node.children.items()):
        yield from tree(f"{path.rstrip('/')}/{name}", child, None if depth is None else depth - 1)


def _directory(trail: list[tuple[str, Node]]) -> Node:
    node = trail[-1][1]
    if node.kind != "directory":
        raise errors.InvalidError(f"{'/'.join(step for step, _ in trail)} is not a directory", field="path")
    return node


def _enter_link(link: Node, trail: list[tuple[str, Node]], parts: deque[str], links: int) -> None:
    if links > MAX_LINKS:
        raise errors.InvalidError("too many symbolic links", field="path")
    target = link.target or ""
    if target.startswith("/"):
        del trail[1:]
    parts.extendleft(reversed(target.split("/")))
