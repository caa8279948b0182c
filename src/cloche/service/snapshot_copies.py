"""Snapshots that leave as one stream and come back, on this node or another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cloche.images import sparse
from cloche.model import snapshot as rules
from cloche.model.errors import InvalidError, NoSpaceError, UnavailableError
from cloche.model.events import DEFAULT_PROJECT
from cloche.model.ids import is_sandbox_id, new_snapshot_id
from cloche.model.sandbox import REFERENCE
from cloche.model.snapshot import Snapshot, SnapshotFile
from cloche.service import snapshot_archive
from cloche.service.boxes import failure_of
from cloche.service.core import Core
from cloche.service.guests import ForwardedReply
from cloche.service.snapshot_archive import Archive, Described, Entry, Source
from cloche.service.snapshots import SnapshotService
from cloche.service.steps import Steps

#: of the disk, left for everybody else
SPARE_BYTES = 64 << 20
#: what a capture may have beside memory and disk: devices, and what an engine rounds up
EXTRA_BYTES = 1 << 30
#: behind the end of the archive: tar pads to ten kilobytes, and some more
MAX_TAIL_BYTES = 1 << 20


class SnapshotCopies:
    def __init__(self, core: Core, snapshots: SnapshotService) -> None:
        self._core = core
        self._snapshots = snapshots

    @asynccontextmanager
    async def content(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> AsyncIterator[ForwardedReply]:
        """The whole snapshot as a tar stream. Raises NotFoundError."""
        snapshot = await self._snapshots.get(ref, project_id=project_id)
        with self._snapshots.using(snapshot):
            parts = await asyncio.to_thread(self._parts, snapshot)
            size = sum(
                len(head) + _data_bytes(extents) + len(snapshot_archive.padding(_data_bytes(extents)))
                for head, _, extents in parts
            )
            headers = {"content-type": "application/x-tar", "content-length": str(size + len(snapshot_archive.END))}
            yield ForwardedReply(200, headers, _stream(parts))

    def _parts(self, snapshot: Snapshot) -> list[_Part]:
        directory = self._core.captures.path("snapshots", snapshot.id)
        told = {field: getattr(snapshot, field) for field in Described.__struct_fields__}
        archive = Archive(version=snapshot_archive.VERSION, snapshot=Described(**told), files=snapshot.files,
                          manifest=snapshot.manifest)  # fmt: skip
        parts: list[_Part] = [(snapshot_archive.manifest_entry(archive), None, [])]
        for file in snapshot.files:
            path = directory / file.name
            extents = _extents(path, file.size_bytes)
            parts.append((snapshot_archive.file_head(file, extents, snapshot.created_at), path, extents))
        return parts

    async def add(
        self, chunks: AsyncIterator[bytes], *, name: str | None = None, project_id: str = DEFAULT_PROJECT
    ) -> Snapshot:
        """A snapshot from such a stream; `name`: another name than it had. Raises InvalidError for what is none, or is
        damaged, AlreadyExistsError, UnavailableError for one that cannot run here, NoSpaceError."""
        rules.check_name(name)
        await self._snapshots.require_room(project_id)
        source = Source(chunks)
        archive = await snapshot_archive.read_manifest(source)
        snapshot = await self._accepted(archive, name, project_id)
        async with Steps("import", self._core.observer) as steps:
            await self._snapshots.begin(snapshot, steps)
            directory = Path(await self._core.captures.make("snapshots", snapshot.id))
            await steps.reached("directory_made")
            await self._receive(source, archive, directory)
            await steps.reached("received")
            await self._snapshots.require_usable(snapshot)
            await steps.reached("verified")
            return await self._snapshots.commit(snapshot, "imported", steps)

    async def _accepted(self, archive: Archive, name: str | None, project_id: str) -> Snapshot:
        """The row to be: everything of the manifest is checked, as somebody else has written it."""
        told = archive.snapshot
        _check(archive)
        engine = self._core.engines.get(told.engine)
        capabilities = await engine.capabilities()
        if not capabilities.memory_snapshot:
            raise UnavailableError(f"engine {told.engine!r} cannot restore the memory of a sandbox here",
                                   remedy="cloche doctor", engine=told.engine)  # fmt: skip
        fields = {field: getattr(told, field) for field in Described.__struct_fields__}
        fields |= {"name": name or told.name, "isolation": capabilities.isolation, "created_at": self._core.clock.now()}
        return Snapshot(id=new_snapshot_id(), project_id=project_id, size_bytes=0, files=archive.files,
                        manifest=archive.manifest, **fields)  # fmt: skip

    async def _receive(self, source: Source, archive: Archive, directory: Path) -> None:
        wanted = {file.name: file for file in archive.files}
        while entry := await snapshot_archive.read_entry(source):
            file = wanted.pop(entry.name, None)
            if file is None or file.size_bytes != entry.size_bytes:
                raise InvalidError(f"the archive has {entry.name!r}, of which its manifest says something else or "
                                   "nothing", field="body")  # fmt: skip
            await self._require_room(entry.data_bytes)
            await _write(source, entry, file, directory / file.name)
        if wanted:
            raise InvalidError(f"the archive lacks {min(wanted)}", field="body")
        await source.drain(MAX_TAIL_BYTES)

    async def _require_room(self, needed: int) -> None:
        free = await self._core.boxes.free_bytes()
        if needed + SPARE_BYTES > free:
            raise NoSpaceError(f"the snapshot needs {needed >> 20} MiB, and {free >> 20} MiB are free",
                               remedy="free some space under CLOCHE_HOME")  # fmt: skip


_Part = tuple[bytes, Path | None, sparse.Extents]


def _extents(path: Path, size: int) -> sparse.Extents:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return sparse.extents(descriptor, size)
    finally:
        os.close(descriptor)


def _data_bytes(extents: sparse.Extents) -> int:
    return sum(length for _, length in extents)


async def _stream(parts: list[_Part]) -> AsyncIterator[bytes]:
    for head, path, extents in parts:
        yield head
        if path is None:
            continue
        with path.open("rb") as file:
            for begin, length in extents:
                for at in range(begin, begin + length, sparse.CHUNK):
                    size = min(sparse.CHUNK, begin + length - at)
                    yield await asyncio.to_thread(os.pread, file.fileno(), size, at)
        if rest := snapshot_archive.padding(_data_bytes(extents)):
            yield rest
    yield snapshot_archive.END


async def _write(source: Source, entry: Entry, file: SnapshotFile, path: Path) -> None:
    """Raises InvalidError when it is not what the manifest says, NoSpaceError."""
    digest = sparse.Digest()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, entry.size_bytes)
            for begin, length in entry.extents:
                await _write_extent(source, descriptor, digest, begin, length)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise failure_of(error, "write") from error
    await source.exactly(entry.padding_bytes)
    if await asyncio.to_thread(digest.value, entry.size_bytes) != file.sha256:
        raise InvalidError(f"{file.name} is damaged: it is not what the archive's manifest says", field="body")


async def _write_extent(source: Source, descriptor: int, digest: sparse.Digest, begin: int, length: int) -> None:
    def take(at: int, data: bytes) -> None:
        digest.data(at, data)
        sparse.write(descriptor, at, data)

    at = begin
    while at < begin + length:
        data = await source.exactly(min(sparse.CHUNK, begin + length - at))
        await asyncio.to_thread(take, at, data)
        at += len(data)


def _check(archive: Archive) -> None:
    """Raise InvalidError for what no snapshot of ours says, and for what would reach for the host."""
    told, files = archive.snapshot, archive.files
    rules.SnapshotSpec(name=told.name, kind=told.kind, labels=told.labels, description=told.description).check()
    told.spec.check()
    told.limits.check()
    if told.spec.mounts or told.spec.host_paths:
        raise InvalidError("a snapshot that was taken with mounts of its host cannot be imported", field="body")
    if not is_sandbox_id(told.sandbox_id) or not REFERENCE.fullmatch(told.engine):
        raise InvalidError("the snapshot names a sandbox or an engine that cannot be", field="body")
    names = [file.name for file in files]
    if not 0 < len(files) <= snapshot_archive.MAX_FILES or len(set(names)) < len(names):
        raise InvalidError("the snapshot has no files, too many, or one twice", field="body")
    if any(not REFERENCE.fullmatch(name) or name == snapshot_archive.MANIFEST for name in names):
        raise InvalidError("the snapshot has a file whose name cannot be", field="body")
    engines_own = archive.manifest.get("files")
    if isinstance(engines_own, dict) and set(engines_own) != set(names):
        raise InvalidError("the snapshot has other files than its engine's manifest names", field="body")
    most = (2 * (told.limits.memory_mib + told.limits.disk_mib) << 20) + EXTRA_BYTES
    if any(file.size_bytes < 0 for file in files) or sum(file.size_bytes for file in files) > most:
        raise InvalidError("the snapshot is larger than memory and disk of its sandbox can be", field="body")
