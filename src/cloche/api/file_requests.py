"""What requests about files carry: their queries and JSON bodies."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from cloche.api.processes import Offset
from cloche.guest_api import bounds

#: no NUL: the kernel could not be given such a path
Path = Annotated[str, Meta(min_length=1, max_length=bounds.MAX_PATH_CHARS, pattern=r"^[^\x00]+$")]
User = Annotated[str, Meta(min_length=1, max_length=64)]
Octal = Annotated[str, Meta(pattern="^0?[0-7]{1,4}$")]
Mode = Annotated[int, Meta(ge=0, le=0o7777)]
Owner = Annotated[int, Meta(ge=0, le=(1 << 32) - 2)]


class UserQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`user`: whose rights count inside; the sandbox's own user when it is not given."""

    user: User | None = None


class PathQuery(UserQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: Path


class ReadQuery(PathQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    offset: Offset = 0
    length: Offset | None = None


class WriteQuery(PathQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`mode` is octal."""

    mode: Octal | None = None
    atomic: bool = True
    append: bool = False
    offset: Offset | None = None
    create_parents: bool = True


class StatQuery(PathQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    follow: bool = False


class ListQuery(PathQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    depth: Annotated[int, Meta(ge=1, le=1000)] = 1


class RecursiveQuery(PathQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    recursive: bool = False


class MakeDirectory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    path: Path
    mode: Mode | None = None
    parents: bool = False


class Move(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: Path = msgspec.field(name="from")
    to: Path
    overwrite: bool = False


class ChangeMode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: Path
    mode: Mode
    recursive: bool = False


class ChangeOwner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: Path
    uid: Owner
    gid: Owner


class MakeSymlink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: Path
    target: Path
