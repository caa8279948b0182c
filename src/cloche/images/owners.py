"""Whose the files of a root directory are, when the disk does not know: a root that an ordinary user unpacked.

Whoever unpacks with one id writes what the archive said into a file beside the directory, `DIRECTORY.owners.jsonl`: one
JSON object a line, `{"path": "etc/shadow", "uid": 0, "gid": 42, "mode": 416}`. Bytes that are no text are as Python's
surrogateescape writes them. Files that are not named there have the ids of the disk; the unpacker's own is root's.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

import msgspec

from cloche.images.tree import LeftOut, Node, Owner, Rules, scan
from cloche.model.errors import InvalidError, NotFoundError

MAX_BYTES = 1 << 28
Id = Annotated[int, msgspec.Meta(ge=0, lt=(1 << 32) - 1)]


class _Line(msgspec.Struct, frozen=True):
    path: str
    uid: Id
    gid: Id
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)]


def sidecar(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.owners.jsonl")


def directory_tree(directory: Path, left: LeftOut) -> Node:
    """All that is in the directory, with setuid bits: it is the root of a machine. Device nodes and the like stay out:
    the machine makes its own. Raises NotFoundError, InvalidError."""
    owners = read(sidecar(directory))
    mine = os.geteuid()

    def owner(path: bytes, found: os.stat_result) -> Owner:
        uid = 0 if found.st_uid == mine else found.st_uid
        gid = 0 if found.st_uid == mine != 0 else found.st_gid
        return owners.get(path) or Owner(uid, gid, stat.S_IMODE(found.st_mode))

    root = scan(os.fsencode(directory), Rules(lambda _path: None, owner, only_public=False), left)
    if root is None or root.kind != "dir":
        raise NotFoundError(f"{directory} is no directory", remedy="name the directory that holds the root file system")
    return root


def read(path: Path) -> dict[bytes, Owner]:
    """Path inside the root → owner. Empty when there is no such file. Raises InvalidError with the line's number."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        with path.open("rb") as lines:
            return dict(_parsed(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip())
    except FileNotFoundError:
        return {}


def _parsed(line: bytes, where: str) -> tuple[bytes, Owner]:
    import json  # msgspec refuses the lone surrogates that stand for bytes

    try:
        found = msgspec.convert(json.loads(line), _Line)
        return os.fsencode(found.path.strip("/")), Owner(found.uid, found.gid, found.mode)
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidError(f"{where} names no owner: {str(error)[:200]}") from error
