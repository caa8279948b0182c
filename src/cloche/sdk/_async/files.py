"""Files of a sandbox. Paths are the sandbox's: absolute, or relative to its user's home; symlinks stay inside it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any, BinaryIO, cast

from cloche.model.errors import InvalidError, LimitHitError, NotFoundError
from cloche.model.file import FileInfo, TarSummary, WatchEvent
from cloche.sdk import wire
from cloche.sdk._async import bridge
from cloche.sdk._async.transport import AsyncTransport
from cloche.sdk.values import CopyReport

MAX_READ_BYTES = 256 << 20


class AsyncFiles:
    """`sandbox.files`. Every call raises NotFoundError, PermissionDeniedError, NoSpaceError, WrongStateError (the
    sandbox does not run) where they apply."""

    def __init__(self, transport: AsyncTransport, sandbox_id: str) -> None:
        self._transport = transport
        self._path = f"/v1/sandboxes/{wire.segment(sandbox_id)}/files"

    async def read(self, path: str) -> str:
        """A file's text. Raises InvalidError when it is not UTF-8; `read_bytes` takes anything."""
        content = await self.read_bytes(path)
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidError(f"{path} is not UTF-8: {error}", remedy="files.read_bytes(path)") from error

    async def read_bytes(
        self, path: str, *, offset: int = 0, length: int | None = None, max_bytes: int = MAX_READ_BYTES
    ) -> bytes:
        """A file's bytes, or a range. Raises LimitHitError beyond `max_bytes`."""
        content = bytearray()
        async for chunk in self.read_stream(path, offset=offset, length=length):
            content += chunk
            if len(content) > max_bytes:
                raise LimitHitError(
                    f"{path} has more than {max_bytes} bytes", remedy="files.read_stream(path)", limit="max_bytes"
                )
        return bytes(content)

    async def read_stream(self, path: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """A file of any size, piece by piece."""
        query = {"path": path, "offset": offset or None, "length": length}
        async for chunk in self._stream("/content", query):
            yield chunk

    async def write(self, path: str, data: str | bytes, *, mode: int | None = None, append: bool = False) -> FileInfo:
        """Replace the file as a whole (or add to it), making its directories. `mode` None: 0644, or as it was."""
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        return await self._write(path, content, mode, append)

    async def write_stream(
        self, path: str, data: bridge.Chunks | BinaryIO, *, mode: int | None = None, append: bool = False
    ) -> FileInfo:
        """Like `write`, from pieces of bytes or a file opened for reading."""
        from cloche.sdk import pack

        source = pack.pieces(cast(BinaryIO, data)) if hasattr(data, "read") else data
        return await self._write(path, bridge.chunks(source), mode, append)

    async def list(self, path: str = ".", *, depth: int = 1) -> list[FileInfo]:
        """What is in a directory, sorted by path. `depth` 2 includes the entries of its directories, and so on."""
        found = [info async for info in self.walk(path, depth=depth)]
        return sorted(found, key=lambda info: info.path)

    async def walk(self, path: str = ".", *, depth: int = 1000) -> AsyncIterator[FileInfo]:
        """Like `list`, as they come and in no order: for more entries than one wants to hold."""
        async for line in self._lines("/list", {"path": path, "depth": depth}):
            yield wire.decode(line, FileInfo)

    async def stat(self, path: str, *, follow: bool = False) -> FileInfo:
        """`follow`: what a symlink leads to instead of the link."""
        return wire.decode(await self._ask("GET", "/stat", {"path": path, "follow": follow}), FileInfo)

    async def exists(self, path: str) -> bool:
        """Whether there is anything at `path`, a dangling symlink too."""
        try:
            await self.stat(path)
        except NotFoundError:
            return False
        return True

    async def mkdir(self, path: str, *, mode: int | None = None, parents: bool = True) -> FileInfo:
        """Without `parents`: NotFoundError for a missing parent, AlreadyExistsError for what exists."""
        return await self._change("mkdir", {"path": path, "mode": mode, "parents": parents})

    async def move(self, source: str, target: str, *, overwrite: bool = False) -> FileInfo:
        """Rename. Raises AlreadyExistsError unless `overwrite`."""
        return await self._change("move", {"from": source, "to": target, "overwrite": overwrite})

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Raises WrongStateError for a directory with something in it unless `recursive`."""
        await self._ask("DELETE", "", {"path": path, "recursive": recursive})

    async def chmod(self, path: str, mode: int, *, recursive: bool = False) -> FileInfo:
        """`mode` as in 0o755."""
        return await self._change("chmod", {"path": path, "mode": mode, "recursive": recursive})

    async def chown(self, path: str, uid: int, gid: int) -> FileInfo:
        """Raises NeedsSubuidError where the sandbox has one user id only."""
        return await self._change("chown", {"path": path, "uid": uid, "gid": gid})

    async def symlink(self, path: str, target: str) -> FileInfo:
        """Make `path` a link to `target`."""
        return await self._change("symlink", {"path": path, "target": target})

    async def upload(self, local: str | os.PathLike[str], path: str) -> CopyReport:
        """Copy a file or a tree of the host so that it is at `path`. Symlinks of the host are copied as links and
        never followed (but `local` itself may be one); sockets, pipes and devices are left out and reported."""
        from cloche.sdk import pack

        report = CopyReport()
        origin = os.path.realpath(os.fspath(local))
        if await bridge.in_thread(os.path.isdir, origin):
            await self.put_tar(path, pack.tree(origin, report))
        else:
            with pack.open_file(origin) as file:
                await self.write_stream(path, file, mode=pack.mode_of(file))
            report.files, report.bytes = 1, os.path.getsize(origin)
        return report

    async def download(self, path: str, local: str | os.PathLike[str], *, skip_refused: bool = False) -> CopyReport:
        """Copy a file or a tree out so that it is at `local`. What the sandbox sends is taken for hostile: names and
        links that lead out of `local`, devices and setuid bits never reach the host. Raises InvalidError for the first
        such entry, or with `skip_refused` leaves it out and reports it."""
        from cloche.sdk import untar

        info = await self.stat(path, follow=True)
        target = os.fspath(local)
        if info.type == "directory":
            extract = untar.Extraction(os.path.realpath(target), skip_refused=skip_refused, strip=1)
            return await bridge.consume(extract.run, self.get_tar(path))
        if info.type != "file":
            raise InvalidError(f"{path} is a {info.type}: only files and directories can be copied", field="path")
        saved = untar.Saving(target, info.mode, info.modified_at)
        return await bridge.consume(saved.run, self.read_stream(path))

    async def get_tar(self, path: str) -> AsyncIterator[bytes]:
        """A tree as a tar stream whose one top entry is the last name of `path`. Do not unpack it with a tool that
        trusts it; `download` does not."""
        async for chunk in self._stream("/tar", {"path": path}):
            yield chunk

    async def put_tar(self, path: str, data: bridge.Chunks) -> TarSummary:
        """Unpack a tar stream below `path`. Raises InvalidError for entries that would leave it."""
        return wire.decode(await self._ask("PUT", "/tar", {"path": path}, bridge.chunks(data)), TarSummary)

    async def watch(self, path: str = ".", *, recursive: bool = False) -> AsyncIterator[WatchEvent]:
        """Changes as they happen, after one event "ready"; "overflow" says that some were lost. Ends with the node:
        raises NodeUnreachableError then, since what happens in between is nobody's to know."""
        async for line in self._lines("/watch", {"path": path, "recursive": recursive}):
            event = wire.decode(line, WatchEvent)
            if event.event != "keepalive":
                yield event

    async def _write(
        self, path: str, content: AsyncIterator[bytes] | bytes, mode: int | None, append: bool
    ) -> FileInfo:
        octal = None if mode is None else f"{mode & 0o7777:04o}"
        query = {"path": path, "mode": octal, "append": append, "atomic": not append, "create_parents": True}
        return wire.decode(await self._ask("PUT", "/content", query, content), FileInfo)

    async def _change(self, operation: str, body: dict[str, Any]) -> FileInfo:
        given = {key: value for key, value in body.items() if value is not None}
        return wire.decode(await self._transport.ask("POST", f"{self._path}/{operation}", json=given), FileInfo)

    async def _ask(
        self, method: str, rest: str, query: wire.Query, content: AsyncIterator[bytes] | bytes | None = None
    ) -> bytes:
        return await self._transport.ask(method, self._path + rest, query=query, content=content)

    async def _stream(self, rest: str, query: wire.Query) -> AsyncIterator[bytes]:
        reply = await self._transport.open("GET", self._path + rest, query=query)
        try:
            async for chunk in reply.chunks():
                yield chunk
        finally:
            await reply.aclose()

    async def _lines(self, rest: str, query: wire.Query) -> AsyncIterator[bytes]:
        reply = await self._transport.open("GET", self._path + rest, query=query)
        try:
            async for line in reply.lines():
                yield line
        finally:
            await reply.aclose()
