"""File calls of the guest's wire. Paths are the sandbox's; `user` None is the sandbox's own user."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from cloche.guest_api import bounds, text
from cloche.guest_api.network import Exchange
from cloche.guest_api.transport import Body, Transport, chunks_of, target
from cloche.model.errors import GuestError, SandboxDeadError
from cloche.model.file import FileInfo, TarSummary, WatchEvent

T = TypeVar("T")
MAX_LINE_BYTES = 512 << 10
LIFE_SIGN_SECONDS = 5.0


class FileBody:
    """A file's bytes as they come. `size` is the whole file's when the guest said it, `length` what is sent."""

    def __init__(self, response: Exchange, chunks: AsyncIterator[bytes]) -> None:
        self.size = _header_number(response, b"cloche-file-size")
        self.length = _header_number(response, b"content-length")
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def read(self, most_bytes: int = 16 << 20) -> bytes:
        """Everything. Raises GuestError when it is more than `most_bytes`."""
        content = bytearray()
        async for chunk in self._chunks:
            content += chunk
            if len(content) > most_bytes:
                raise GuestError(f"the file is larger than {most_bytes} bytes")
        return bytes(content)


class FileCalls(Transport):
    @contextlib.asynccontextmanager
    async def read_file(
        self, path: str, offset: int = 0, length: int | None = None, user: str | None = None
    ) -> AsyncIterator[FileBody]:
        """`async with guest.read_file(path) as body: async for chunk in body`. Raises NotFoundError, InvalidError."""
        query = {"path": path, "offset": offset or None, "length": length, "user": user}
        async with self._stream("GET", target("/v1/files/content", query)) as response:
            yield FileBody(response, self._bulk(response))

    async def write_file(
        self, path: str, data: Body, *, mode: int | None = None, atomic: bool = True, append: bool = False,
        offset: int | None = None, create_parents: bool = True, user: str | None = None,
    ) -> FileInfo:  # fmt: skip
        """`mode` None: 0644, or that of the file it replaces. Raises NoSpaceError, PermissionDeniedError."""
        query = {"path": path, "mode": _octal(mode), "atomic": atomic and not append and offset is None,
                 "append": append, "offset": offset, "create_parents": create_parents, "user": user}  # fmt: skip
        return bounds.file(await self._upload(FileInfo, "PUT", target("/v1/files/content", query), data))

    async def stat(self, path: str, follow: bool = False, user: str | None = None) -> FileInfo:
        query = {"path": path, "follow": follow, "user": user}
        return bounds.file(await self._ask(FileInfo, "GET", target("/v1/files/stat", query)))

    @contextlib.asynccontextmanager
    async def list_files(
        self, path: str, depth: int = 1, user: str | None = None
    ) -> AsyncIterator[AsyncIterator[FileInfo]]:
        """`async with guest.list_files(path) as infos: async for info in infos`."""
        query = {"path": path, "depth": depth, "user": user}
        async with self._stream("GET", target("/v1/files/list", query)) as response:
            yield _lines(chunks_of(response), FileInfo, bounds.file)

    async def make_dir(
        self, path: str, mode: int | None = None, parents: bool = False, user: str | None = None
    ) -> FileInfo:
        """Raises AlreadyExistsError (not with `parents`), NotFoundError."""
        return await self._change("mkdir", {"path": path, "mode": mode, "parents": parents}, user)

    async def move(self, source: str, to: str, overwrite: bool = False, user: str | None = None) -> FileInfo:
        """Raises AlreadyExistsError unless `overwrite`."""
        return await self._change("move", {"from": source, "to": to, "overwrite": overwrite}, user)

    async def chmod(self, path: str, mode: int, recursive: bool = False, user: str | None = None) -> FileInfo:
        return await self._change("chmod", {"path": path, "mode": mode, "recursive": recursive}, user)

    async def chown(self, path: str, uid: int, gid: int, user: str | None = None) -> FileInfo:
        """Raises NeedsSubuidError where only one user id exists."""
        return await self._change("chown", {"path": path, "uid": uid, "gid": gid}, user)

    async def symlink(self, path: str, to: str, user: str | None = None) -> FileInfo:
        """Make `path` a link to `to`."""
        return await self._change("symlink", {"path": path, "target": to}, user)

    async def remove(self, path: str, recursive: bool = False, user: str | None = None) -> None:
        """Raises NotFoundError; WrongStateError for a directory that is not empty, without `recursive`."""
        await self._call("DELETE", target("/v1/files", {"path": path, "recursive": recursive, "user": user}))

    @contextlib.asynccontextmanager
    async def tar_out(self, path: str, user: str | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """A tar stream (PAX) of the tree, one top entry. It is written by the sandbox: extract it as hostile."""
        async with self._stream("GET", target("/v1/files/tar", {"path": path, "user": user})) as response:
            yield self._bulk(response)

    async def tar_in(self, path: str, data: Body, user: str | None = None) -> TarSummary:
        """Extract below `path`. Raises InvalidError for entries that would leave it."""
        asked = target("/v1/files/tar", {"path": path, "user": user})
        return bounds.tar_summary(await self._upload(TarSummary, "PUT", asked, data))

    @contextlib.asynccontextmanager
    async def watch(
        self, path: str, recursive: bool = False, user: str | None = None
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """Events until it is left; "ready" comes first, keepalives are left out."""
        query = {"path": path, "recursive": recursive, "user": user}
        async with self._stream("GET", target("/v1/files/watch", query)) as response:
            events = _lines(chunks_of(response), WatchEvent, bounds.watch_event)
            yield (event async for event in events if event.event != "keepalive")

    async def _bulk(self, response: Exchange) -> AsyncIterator[bytes]:
        """A guest that cannot finish a body breaks the connection off; only when it is gone is the sandbox dead."""
        try:
            async for chunk in chunks_of(response):
                yield chunk
        except SandboxDeadError:
            await self._call("GET", b"/v1/health", timeout_seconds=LIFE_SIGN_SECONDS)
            raise GuestError("the guest broke the body off: something could not be read to its end") from None

    async def _change(self, operation: str, body: dict[str, object], user: str | None) -> FileInfo:
        given = {key: value for key, value in body.items() if value is not None}
        asked = target(f"/v1/files/{operation}", {"user": user})
        return bounds.file(await self._ask(FileInfo, "POST", asked, given, timeout_seconds=300))


async def _lines(chunks: AsyncIterator[bytes], kind: type[T], check: Callable[[T], T]) -> AsyncIterator[T]:
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        # Looked for in the new bytes only: a line that comes byte by byte must not cost its length each time.
        if b"\n" in chunk:
            *lines, rest = bytes(buffer).split(b"\n")
            buffer = bytearray(rest)
            for line in lines:
                yield check(text.decode(line, kind))
        if len(buffer) > MAX_LINE_BYTES:
            raise GuestError(f"a line of more than {MAX_LINE_BYTES} bytes")
    if buffer:
        raise GuestError("the guest's list ends inside a line")


def _octal(mode: int | None) -> str | None:
    return None if mode is None else f"{mode:04o}"


def _header_number(response: Exchange, name: bytes) -> int | None:
    for key, value in response.headers:
        if key.lower() == name:
            return _number(value)
    return None


def _number(value: bytes) -> int:
    if not value.isdigit() or len(value) > 19:
        raise GuestError(f"not a size: {value[:64]!r}")
    return int(value)
