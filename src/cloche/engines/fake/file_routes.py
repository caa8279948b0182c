"""The file requests of the guest's wire for a fake guest."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

import msgspec

from cloche.engines.fake.filesystem import Node, Place, absolute, describe, tree
from cloche.engines.fake.guest import FakeGuest
from cloche.engines.fake.http import Answer, Request, json_answer
from cloche.guest_api import text
from cloche.model.errors import InvalidError, NeedsSubuidError, UnavailableError
from cloche.model.file import TarSummary

Route = Callable[[FakeGuest, Request, str], Awaitable[Answer]]
CHUNK_BYTES = 64 << 10


class MkdirBody(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    mode: int | None = None
    parents: bool = False


class MoveBody(msgspec.Struct, forbid_unknown_fields=True):
    source: str = msgspec.field(name="from")
    to: str = ""
    overwrite: bool = False


class ChmodBody(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    mode: int
    recursive: bool = False


class ChownBody(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    uid: int
    gid: int


class SymlinkBody(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    target: str


async def _read(guest: FakeGuest, request: Request, _: str) -> Answer:
    place = guest.files.find(_path(request))
    node = place.existing()
    if node.kind != "file":
        raise InvalidError(f"{place.path} is a {node.kind}, not a file", field="path")
    offset = request.number("offset", 0)
    length = request.number("length", len(node.data))
    if offset < 0 or length < 0:
        raise InvalidError("offset and length count from 0", field="offset")
    data = node.data[offset : offset + length]
    headers = [("Content-Length", str(len(data))), ("Cloche-File-Size", str(len(node.data)))]
    return Answer(200, _chunks(data), headers)


async def _write(guest: FakeGuest, request: Request, _: str) -> Answer:
    path, mode = _path(request), _mode(request)
    parents = request.flag("create_parents", True)
    data = await request.content()
    before = b"" if request.flag("atomic", True) else _content(guest.files.find(path))
    if request.flag("append"):
        data = before + data
    elif "offset" in request.query:
        offset = request.number("offset", 0)
        data = before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :]
    return json_answer(guest.files.write(path, data, mode=mode, parents=parents))


async def _stat(guest: FakeGuest, request: Request, _: str) -> Answer:
    return json_answer(guest.files.info(guest.files.find(_path(request), follow=request.flag("follow"))))


async def _list(guest: FakeGuest, request: Request, _: str) -> Answer:
    place = guest.files.find(_path(request))
    if place.existing().kind != "directory":
        raise InvalidError(f"{place.path} is not a directory", field="path")
    found = list(tree(place.path, place.existing(), max(1, request.number("depth", 1))))[1:]
    lines = b"".join(text.encode(describe(path, node)) + b"\n" for path, node in found)
    return Answer(200, _chunks(lines), [("Content-Type", "application/x-ndjson")])


async def _mkdir(guest: FakeGuest, request: Request, _: str) -> Answer:
    body = await request.json(MkdirBody)
    return json_answer(guest.files.make_dir(body.path, mode=body.mode, parents=body.parents))


async def _move(guest: FakeGuest, request: Request, _: str) -> Answer:
    body = await request.json(MoveBody)
    return json_answer(guest.files.move(body.source, body.to, overwrite=body.overwrite))


async def _chmod(guest: FakeGuest, request: Request, _: str) -> Answer:
    body = await request.json(ChmodBody)
    return json_answer(guest.files.chmod(body.path, body.mode, recursive=body.recursive))


async def _chown(guest: FakeGuest, request: Request, _: str) -> Answer:
    body = await request.json(ChownBody)
    place = guest.files.find(body.path)
    if (body.uid, body.gid) != (1000, 1000):
        raise NeedsSubuidError("only the user's own id exists in this sandbox")
    return json_answer(guest.files.info(place))


async def _symlink(guest: FakeGuest, request: Request, _: str) -> Answer:
    body = await request.json(SymlinkBody)
    return json_answer(guest.files.symlink(body.path, body.target))


async def _remove(guest: FakeGuest, request: Request, _: str) -> Answer:
    guest.files.remove(_path(request), recursive=request.flag("recursive"))
    return Answer(204)


async def _tar_out(guest: FakeGuest, request: Request, _: str) -> Answer:
    place = guest.files.find(_path(request), follow=False)
    place.existing()
    return Answer(200, _chunks(_pack(place)), [("Content-Type", "application/x-tar")])


async def _tar_in(guest: FakeGuest, request: Request, _: str) -> Answer:
    base = absolute(_path(request)).rstrip("/")
    guest.files.make_dir(base, parents=True)
    files = size = 0
    content = io.BytesIO(await request.content())
    try:
        with tarfile.open(fileobj=content, encoding="utf-8") as archive:
            for member in archive:
                size += _unpack(guest, archive, member, base)
                files += 1
    except tarfile.TarError as error:
        raise InvalidError(f"not a tar archive: {error}") from error
    return json_answer(TarSummary(files=files, bytes=size))


async def _watch(guest: FakeGuest, request: Request, _: str) -> Answer:
    raise UnavailableError("the fake sandbox does not watch files")


def _pack(place: Place) -> bytes:
    out = io.BytesIO()
    top = len(place.path) - len(place.name)
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, node in tree(place.path, place.existing()):
            archive.addfile(_member(path[top:] or ".", node), io.BytesIO(node.data))
    return out.getvalue()


def _member(name: str, node: Node) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    kinds = {"directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE}
    member.type = kinds.get(node.kind, tarfile.REGTYPE)
    member.size, member.mode, member.mtime = len(node.data), node.mode, int(node.modified_at)
    member.uid = member.gid = 1000
    member.linkname = node.target or ""
    return member


def _unpack(guest: FakeGuest, archive: tarfile.TarFile, member: tarfile.TarInfo, base: str) -> int:
    path = _inside(guest, member.name, base)
    mode = member.mode & 0o777
    if member.isdir():
        guest.files.make_dir(path, mode=mode, parents=True)
    elif member.issym():
        guest.files.symlink(path, member.linkname)
    elif member.isreg():
        content = archive.extractfile(member)
        return guest.files.write(path, content.read() if content else b"", mode=mode).size
    else:
        raise InvalidError(f"{member.name} is neither file, directory nor link")
    return 0


def _inside(guest: FakeGuest, name: str, base: str) -> str:
    """Raises InvalidError for a name that leads out of `base`, by itself or through a link made before it."""
    if name.startswith("/") or ".." in name.split("/"):
        raise InvalidError(f"{name} leads out of {base}")
    steps = name.split("/")
    for count in range(1, len(steps)):
        parent = guest.files.find("/".join([base, *steps[:count]]), follow=False)
        if parent.node is None:
            break
        if parent.node.kind == "symlink":
            raise InvalidError(f"{name} leads through the link {parent.path}")
    return f"{base}/{name}"


def _content(place: Place) -> bytes:
    return place.node.data if place.node is not None else b""


def _path(request: Request) -> str:
    return request.query.get("path", "")


def _mode(request: Request) -> int | None:
    if "mode" not in request.query:
        return None
    try:
        return int(request.query["mode"], 8)
    except ValueError as error:
        raise InvalidError(f"mode {request.query['mode']!r} is not octal", field="mode") from error


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


Method = Literal["GET", "PUT", "POST", "DELETE"]
FILE_ROUTES: list[tuple[Method, str, Route]] = [
    ("GET", "/v1/files/content", _read),
    ("PUT", "/v1/files/content", _write),
    ("GET", "/v1/files/stat", _stat),
    ("GET", "/v1/files/list", _list),
    ("POST", "/v1/files/mkdir", _mkdir),
    ("POST", "/v1/files/move", _move),
    ("POST", "/v1/files/chmod", _chmod),
    ("POST", "/v1/files/chown", _chown),
    ("POST", "/v1/files/symlink", _symlink),
    ("DELETE", "/v1/files", _remove),
    ("GET", "/v1/files/tar", _tar_out),
    ("PUT", "/v1/files/tar", _tar_in),
    ("GET", "/v1/files/watch", _watch),
]
