"""Captures of fake boxes: two files in a directory, as a virtual machine's are a memory and a disk.

`memory.json` is the guest with its processes, and where on the disk each file is; `disk` is sparse."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cloche.engines.base import Manifest
from cloche.engines.fake.box import FakeBox
from cloche.engines.fake.filesystem import Filesystem, Node, tree
from cloche.engines.fake.guest import FrozenGuest
from cloche.guest_api import text
from cloche.model.errors import EngineError, GuestError, NoSpaceError, UnavailableError
from cloche.model.file import FileType

VERSION = 1
MEMORY, DISK = "memory.json", "disk"
#: of the disk; every file begins at a multiple of it
BLOCK = 64 << 10


class FrozenNode(msgspec.Struct, frozen=True, kw_only=True):
    """A file, directory or link: where its content begins on the disk, and how long it is."""

    path: str
    kind: FileType
    mode: int
    modified_at: float
    target: str | None
    offset: int
    size: int


class FrozenBox(msgspec.Struct, frozen=True, kw_only=True):
    """All of memory.json."""

    guest: FrozenGuest
    nodes: list[FrozenNode]
    limit_bytes: int


def write(box: FakeBox, directory: Path, half: Callable[[], None]) -> Manifest:
    """`half` is called between the two files. Raises NoSpaceError, EngineError."""
    try:
        nodes = _write_disk(box.files, directory / DISK)
        half()
        frozen = FrozenBox(guest=box.frozen(), nodes=nodes, limit_bytes=box.files.limit_bytes)
        (directory / MEMORY).write_bytes(text.encode(frozen))
    except OSError as error:
        raise NoSpaceError(f"no room for a capture: {error.strerror}") from error
    files = {name: _described(directory / name) for name in (DISK, MEMORY)}
    return {"version": VERSION, "files": files, "size_bytes": sum(each["size_bytes"] for each in files.values())}


def check(directory: Path, manifest: Manifest) -> None:
    """Raises UnavailableError for another version, EngineError for a file that is missing or damaged."""
    if manifest.get("version") != VERSION:
        raise UnavailableError(
            f"the capture is of version {str(manifest.get('version'))[:20]}, and this engine reads version {VERSION}",
            remedy="take it again on this machine",
        )
    files = manifest.get("files")
    for name in (DISK, MEMORY):
        try:
            found: dict[str, Any] | None = _described(directory / name)
        except OSError:
            found = None
        if found is None or not isinstance(files, dict) or files.get(name) != found:
            raise EngineError(f"the capture is damaged: {name} is not what was written", stage="verify")


def read(directory: Path) -> tuple[FrozenGuest, Filesystem]:
    """What `write` has written. Raises EngineError."""
    try:
        frozen = text.decode((directory / MEMORY).read_bytes(), FrozenBox)
        files = Filesystem(frozen.limit_bytes)
        with (directory / DISK).open("rb") as disk:
            files.root = _root_of(frozen.nodes, lambda node: os.pread(disk.fileno(), node.size, node.offset))
    except (OSError, KeyError, ValueError, GuestError) as error:
        raise EngineError(f"the capture cannot be read: {error}", stage="restore") from error
    return frozen.guest, files


def _write_disk(files: Filesystem, path: Path) -> list[FrozenNode]:
    nodes, end = [], 0
    with path.open("xb") as disk:
        os.chmod(path, 0o600)
        for where, node in tree("/", files.root):
            nodes.append(FrozenNode(path=where, kind=node.kind, mode=node.mode, modified_at=node.modified_at,
                                    target=node.target, offset=end, size=len(node.data)))  # fmt: skip
            os.pwrite(disk.fileno(), node.data, end)
            end += -(-len(node.data) // BLOCK) * BLOCK
        # a disk is larger than what is on it
        disk.truncate(end + 16 * BLOCK)
    return nodes


def _root_of(nodes: list[FrozenNode], content: Callable[[FrozenNode], bytes]) -> Node:
    """Parents come before what is in them."""
    found: dict[str, Node] = {}
    for each in nodes:
        node = found[each.path] = Node(each.kind, each.mode, target=each.target)
        node.data, node.modified_at = content(each), each.modified_at
        parent, _, name = each.path.rpartition("/")
        if name:
            found[parent or "/"].children[name] = node
    return found["/"]


def _described(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
