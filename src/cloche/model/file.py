"""Files of a sandbox as the guest's wire and the node's API describe them, field for field."""

from __future__ import annotations

from typing import Literal

import msgspec

FileType = Literal["file", "directory", "symlink", "fifo", "socket", "device"]
WatchKind = Literal["ready", "create", "write", "remove", "rename", "chmod", "overflow", "keepalive"]


class FileInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`size` in bytes, `mode` the permission bits, `modified_at` in UTC seconds. `target` only of symlinks.
    Bytes of a name that are not UTF-8 are lone surrogates (surrogateescape)."""

    path: str
    name: str
    type: FileType
    size: int
    mode: int
    uid: int
    gid: int
    user: str = ""
    group: str = ""
    modified_at: float
    target: str | None = None
    inode: int = 0


class WatchEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One change below a watched path. "ready": watching has begun; "overflow": events were lost, look again."""

    event: WatchKind
    path: str = ""
    type: FileType | None = None


class TarSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What an extraction wrote."""

    files: int
    bytes: int
