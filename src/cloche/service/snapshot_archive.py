"""A snapshot as one tar stream: `cloche-snapshot.json` first, then the files of the capture, sparse as GNU tar writes
them (PAX 1.0), so that other programs can read it, too.

Sans-io but for `Source`. What is read was written by anybody: names, sizes, counts and places are bounded before
anything is made of them."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from cloche.guest_api import text
from cloche.model.errors import GuestError, InvalidError
from cloche.model.limits import ResolvedLimits
from cloche.model.sandbox import REFERENCE, Isolation, SandboxSpec
from cloche.model.snapshot import SnapshotFile, SnapshotKind

VERSION = 1
MANIFEST = "cloche-snapshot.json"
BLOCK = 512
MAX_MANIFEST_BYTES = 4 << 20
MAX_PAX_BYTES = 64 << 10
MAX_EXTENTS = 1 << 20
MAX_FILE_BYTES = 1 << 40
MAX_FILES = 64
END = bytes(2 * BLOCK)
Extents = list[tuple[int, int]]


class Described(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told of the snapshot itself. The fields are those of `Snapshot`."""

    name: str | None
    kind: SnapshotKind
    sandbox_id: str
    engine: str
    isolation: Isolation
    spec: SandboxSpec
    limits: ResolvedLimits
    labels: dict[str, str]
    description: str
    created_at: float


class Archive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """cloche-snapshot.json. `manifest` is the engine's own."""

    version: int
    snapshot: Described
    files: list[SnapshotFile]
    manifest: dict[str, Any]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A file that comes next: `data_bytes` of data that belong into the extents, one after the other."""

    name: str
    size_bytes: int
    extents: Extents
    data_bytes: int
    padding_bytes: int


def manifest_entry(archive: Archive) -> bytes:
    """The first entry, whole."""
    content = text.encode(archive)
    return _header(MANIFEST, len(content), archive.snapshot.created_at) + content + padding(len(content))


def file_head(file: SnapshotFile, extents: Extents, modified_at: float) -> bytes:
    """Everything of an entry that comes before its data."""
    data_bytes = sum(length for _, length in extents)
    if data_bytes == file.size_bytes:
        return _header(file.name, data_bytes, modified_at)
    # a hole at the end is told by an extent of no length
    told = [*extents, (file.size_bytes, 0)]
    numbers = [len(told), *(number for extent in told for number in extent)]
    where = "".join(f"{number}\n" for number in numbers).encode("ascii")
    where += padding(len(where))
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": file.name,
              "GNU.sparse.realsize": str(file.size_bytes)}  # fmt: skip
    return _header(f"GNUSparseFile.0/{file.name}", len(where) + data_bytes, modified_at, sparse) + where


def padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def _header(name: str, size: int, modified_at: float, pax: dict[str, str] | None = None) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, int(modified_at)
    info.pax_headers = pax or {}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


class Source:
    """A stream that is read in exact pieces. Raises InvalidError when it is cut."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    async def some(self, most: int) -> bytes:
        """At least one byte and at most `most`."""
        while not self._rest:
            try:
                self._rest = await anext(self._chunks)
            except StopAsyncIteration:
                raise InvalidError("the archive is cut", field="body") from None
        taken, self._rest = self._rest[:most], self._rest[most:]
        return taken

    async def exactly(self, size: int) -> bytes:
        parts = []
        while size:
            parts.append(await self.some(size))
            size -= len(parts[-1])
        return b"".join(parts)

    async def drain(self, most: int) -> None:
        """Read to the end what nobody wants. Raises InvalidError when it is more than `most`."""
        left = most - len(self._rest)
        async for chunk in self._chunks:
            left -= len(chunk)
            if left < 0:
                raise InvalidError("there is more behind the archive's end", field="body")


async def read_manifest(source: Source) -> Archive:
    """Raises InvalidError for what is no snapshot, or one of a version that is not known."""
    entry = await read_entry(source)
    if entry is None or entry.name != MANIFEST or entry.data_bytes > MAX_MANIFEST_BYTES or not entry.data_bytes:
        raise InvalidError(f"this is no snapshot: its archive does not begin with {MANIFEST}", field="body")
    content = await source.exactly(entry.data_bytes)
    await source.exactly(entry.padding_bytes)
    try:
        archive = text.decode(content, Archive)
    except GuestError as error:
        raise InvalidError(f"{MANIFEST} is not as it must be: {error.__cause__}", field="body") from error
    if archive.version != VERSION:
        raise InvalidError(f"the snapshot is of version {archive.version}, and this one reads {VERSION}", field="body")
    return archive


async def read_entry(source: Source) -> Entry | None:
    """The next file, whose data is to be read then; None at the end. Raises InvalidError."""
    pax: dict[str, str] = {}
    while True:
        block = await source.exactly(BLOCK)
        if block == bytes(BLOCK):
            return None
        info = _info(block)
        if info.type == tarfile.XHDTYPE and not pax:
            if not 0 < info.size <= MAX_PAX_BYTES:
                raise InvalidError("an extended header of the archive is too large", field="body")
            pax = _records(await source.exactly(info.size))
            await source.exactly(len(padding(info.size)))
            continue
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise InvalidError(f"the archive has an entry {info.name[:80]!r} that is no plain file", field="body")
        return await _entry(source, info, pax)


def _info(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as error:
        raise InvalidError(f"this is no tar archive: {error}", field="body") from error


def _records(data: bytes) -> dict[str, str]:
    """ "17 key=value\n" after one another."""
    found: dict[str, str] = {}
    while data:
        length, _, _ = data[:12].partition(b" ")
        size = _number(length)
        record, data = data[len(length) + 1 : size], data[size:]
        key, equals, value = record.partition(b"=")
        if size <= len(length) + 1 or not equals or not value.endswith(b"\n"):
            raise InvalidError("an extended header of the archive is damaged", field="body")
        found[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "replace")
    return found


async def _entry(source: Source, info: tarfile.TarInfo, pax: dict[str, str]) -> Entry:
    stored = _number(pax["size"].encode()) if "size" in pax else info.size
    name = pax.get("GNU.sparse.name") or pax.get("path") or info.name
    if not REFERENCE.fullmatch(name) or not 0 <= stored <= MAX_FILE_BYTES:
        raise InvalidError(f"the archive has an entry {name[:80]!r} that no snapshot has", field="body")
    if "GNU.sparse.major" not in pax:
        return Entry(name=name, size_bytes=stored, extents=[(0, stored)], data_bytes=stored,
                     padding_bytes=len(padding(stored)))  # fmt: skip
    if (pax["GNU.sparse.major"], pax.get("GNU.sparse.minor")) != ("1", "0"):
        raise InvalidError("the archive has sparse files of another format than PAX 1.0", field="body")
    size = _number(pax.get("GNU.sparse.realsize", "").encode())
    extents, used = await _map(source, stored)
    _check_map(extents, size, stored - used)
    return Entry(name=name, size_bytes=size, extents=extents, data_bytes=stored - used,
                 padding_bytes=len(padding(stored)))  # fmt: skip


async def _map(source: Source, most: int) -> tuple[Extents, int]:
    """Where the data of a sparse file belongs, and how many bytes it took to say so."""
    numbers: list[int] = []
    rest, used = b"", 0
    while not numbers or len(numbers) < 1 + 2 * numbers[0]:
        if used + BLOCK > most:
            raise InvalidError("a sparse file of the archive is damaged", field="body")
        *lines, rest = (rest + await source.exactly(BLOCK)).split(b"\n")
        used += BLOCK
        if numbers:
            lines = lines[: 1 + 2 * numbers[0] - len(numbers)]
        numbers += map(_number, lines)
        if not numbers or numbers[0] > MAX_EXTENTS or (len(rest) > 20 and rest.strip(b"\0")):
            raise InvalidError("a sparse file of the archive is damaged", field="body")
    pairs = numbers[1 : 1 + 2 * numbers[0]]
    return list(zip(pairs[::2], pairs[1::2], strict=True)), used


def _check_map(extents: Extents, size: int, data_bytes: int) -> None:
    at = 0
    for offset, length in extents:
        if offset < at:
            raise InvalidError("a sparse file of the archive has data twice at one place", field="body")
        at = offset + length
    if at > size or size > MAX_FILE_BYTES or sum(length for _, length in extents) != data_bytes:
        raise InvalidError("a sparse file of the archive is not as long as it says", field="body")


def _number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 15:
        raise InvalidError("the archive has a number that is none", field="body")
    return int(digits)
