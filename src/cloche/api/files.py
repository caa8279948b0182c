"""Routes of files: the guest's wire, with the host's checks on the way in and out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec

from cloche.api import decode
from cloche.api.endpoint import Call, Endpoint, Raw
from cloche.api.file_requests import (
    ChangeMode,
    ChangeOwner,
    ListQuery,
    MakeDirectory,
    MakeSymlink,
    Move,
    PathQuery,
    ReadQuery,
    RecursiveQuery,
    StatQuery,
    UserQuery,
    WriteQuery,
)
from cloche.api.processes import length_of
from cloche.api.replies import NDJSON, Checked, Inspector, Relay, Reply
from cloche.guest_api import bounds, text
from cloche.model.errors import GuestError
from cloche.model.file import FileInfo, TarSummary, WatchEvent

T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)

BYTES = Raw()
TAR = Raw("application/x-tar")
MAX_LINE_BYTES = 1 << 20


async def read_file(call: Call[ReadQuery, None]) -> Reply:
    return _relay(call, "GET", "/content")


async def write_file(call: Call[WriteQuery, None]) -> Reply:
    return _upload(call, "/content", FileInfo)


async def stat_file(call: Call[StatQuery, None]) -> Reply:
    exchange = call.services.files.forward(call.path["ref"], "GET", "/stat", query=decode.again(call.query))
    return Checked(exchange, FileInfo, bounds.file)


async def list_files(call: Call[ListQuery, None]) -> Reply:
    return _relay(call, "GET", "/list", line_inspector(FileInfo))


async def remove_file(call: Call[RecursiveQuery, None]) -> Reply:
    return _relay(call, "DELETE", "")


async def read_tar(call: Call[PathQuery, None]) -> Reply:
    return _relay(call, "GET", "/tar")


async def write_tar(call: Call[PathQuery, None]) -> Reply:
    return _upload(call, "/tar", TarSummary)


async def watch_files(call: Call[RecursiveQuery, None]) -> Reply:
    exchange = call.services.files.forward(call.path["ref"], "GET", "/watch", query=decode.again(call.query))
    return Relay(exchange, line_inspector(WatchEvent), ends_with_node=True)


async def make_directory(call: Call[UserQuery, MakeDirectory]) -> Reply:
    return _change(call, "/mkdir")


async def move_file(call: Call[UserQuery, Move]) -> Reply:
    return _change(call, "/move")


async def change_mode(call: Call[UserQuery, ChangeMode]) -> Reply:
    return _change(call, "/chmod")


async def change_owner(call: Call[UserQuery, ChangeOwner]) -> Reply:
    return _change(call, "/chown")


async def make_symlink(call: Call[UserQuery, MakeSymlink]) -> Reply:
    return _change(call, "/symlink")


def line_inspector(kind: type[FileInfo] | type[WatchEvent]) -> Inspector:
    """Refuses a stream of JSON lines at the first that is too long or no `kind`."""
    rest = bytearray()

    def inspect(chunk: bytes) -> None:
        if not chunk and rest:
            raise GuestError("the guest's list ends inside a line")
        *lines, last = (bytes(rest) + chunk).split(b"\n") if b"\n" in chunk else [bytes(rest) + chunk]
        for line in lines:
            _check_line(line, kind)
        rest[:] = last
        if len(rest) > MAX_LINE_BYTES:
            raise GuestError(f"the guest's list has a line of more than {MAX_LINE_BYTES} bytes")

    return inspect


def _check_line(line: bytes, kind: type[FileInfo] | type[WatchEvent]) -> None:
    value = text.decode(line, kind)
    if isinstance(value, FileInfo):
        bounds.file(value)
    else:
        bounds.watch_event(value)


def _relay(call: Call[Q, None], method: str, rest: str, inspect: Inspector | None = None) -> Reply:
    return Relay(call.services.files.forward(call.path["ref"], method, rest, query=decode.again(call.query)), inspect)


def _upload(call: Call[Q, None], rest: str, kind: type[FileInfo] | type[TarSummary]) -> Reply:
    body: AsyncIterator[bytes] = call.incoming.chunks()
    exchange = call.services.files.forward(
        call.path["ref"], "PUT", rest, query=decode.again(call.query), headers=length_of(call.headers), body=body
    )
    if kind is FileInfo:
        return Checked(exchange, FileInfo, bounds.file, has_body=True)
    return Checked(exchange, TarSummary, bounds.tar_summary, has_body=True)


def _change(call: Call[UserQuery, T], rest: str) -> Reply:
    exchange = call.services.files.forward(
        call.path["ref"],
        "POST",
        rest,
        query=decode.again(call.query),
        headers={"content-type": "application/json"},
        body=text.encode(call.body),
    )
    return Checked(exchange, FileInfo, bounds.file)


_FILES = "/v1/sandboxes/{ref}/files"
_USES = ("not_found", "wrong_state", "permission_denied", "sandbox_dead", "guest_error", "timed_out")
_WRITES = (*_USES, "already_exists", "no_space")

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{_FILES}/content",
        handler=read_file,
        query=ReadQuery,
        answer=BYTES,
        errors=_USES,
        summary="A file's bytes, or a range of them",
    ),
    Endpoint(
        method="PUT",
        path=f"{_FILES}/content",
        handler=write_file,
        query=WriteQuery,
        body=BYTES,
        answer=FileInfo,
        errors=_WRITES,
        summary="Write a file, atomically unless told otherwise",
    ),
    Endpoint(
        method="GET",
        path=f"{_FILES}/stat",
        handler=stat_file,
        query=StatQuery,
        answer=FileInfo,
        errors=_USES,
        summary="What is known of one path",
    ),
    Endpoint(
        method="GET",
        path=f"{_FILES}/list",
        handler=list_files,
        query=ListQuery,
        answer=Raw(NDJSON),
        errors=_USES,
        summary="A directory, one FileInfo a line",
    ),
    Endpoint(
        method="DELETE",
        path=_FILES,
        handler=remove_file,
        query=RecursiveQuery,
        status=204,
        errors=_WRITES,
        summary="Remove a file or a directory",
    ),
    Endpoint(
        method="GET",
        path=f"{_FILES}/tar",
        handler=read_tar,
        query=PathQuery,
        answer=TAR,
        errors=_USES,
        summary="A tree as a tar stream",
    ),
    Endpoint(
        method="PUT",
        path=f"{_FILES}/tar",
        handler=write_tar,
        query=PathQuery,
        body=TAR,
        answer=TarSummary,
        errors=_WRITES,
        summary="Unpack a tar stream below a directory",
    ),
    Endpoint(
        method="GET",
        path=f"{_FILES}/watch",
        handler=watch_files,
        query=RecursiveQuery,
        answer=Raw(NDJSON),
        errors=_USES,
        summary="Changes as they happen, one a line",
    ),
    Endpoint(
        method="POST",
        path=f"{_FILES}/mkdir",
        handler=make_directory,
        query=UserQuery,
        body=MakeDirectory,
        answer=FileInfo,
        errors=_WRITES,
        summary="Make a directory",
    ),
    Endpoint(
        method="POST",
        path=f"{_FILES}/move",
        handler=move_file,
        query=UserQuery,
        body=Move,
        answer=FileInfo,
        errors=_WRITES,
        summary="Move or rename",
    ),
    Endpoint(
        method="POST",
        path=f"{_FILES}/chmod",
        handler=change_mode,
        query=UserQuery,
        body=ChangeMode,
        answer=FileInfo,
        errors=_WRITES,
        summary="Change permission bits",
    ),
    Endpoint(
        method="POST",
        path=f"{_FILES}/chown",
        handler=change_owner,
        query=UserQuery,
        body=ChangeOwner,
        answer=FileInfo,
        errors=(*_WRITES, "needs_subuid"),
        summary="Change owner and group",
    ),
    Endpoint(
        method="POST",
        path=f"{_FILES}/symlink",
        handler=make_symlink,
        query=UserQuery,
        body=MakeSymlink,
        answer=FileInfo,
        errors=_WRITES,
        summary="Make a symbolic link",
    ),
)
