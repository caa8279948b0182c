"""Snapshots as streams: what goes out comes in again, tar programs read it, and nothing else is taken for one."""

import asyncio
import io
import tarfile

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.model.errors import AlreadyExistsError, ClocheError, InvalidError, NoSpaceError, UnavailableError
from cloche.model.limits import Limits
from cloche.model.process import ProcessSpec
from cloche.model.sandbox import SandboxSpec
from cloche.model.snapshot import SnapshotFile, SnapshotSpec
from cloche.service import snapshot_archive
from cloche.service.snapshot_archive import Archive, Source
from tests.unit.service.place import Place

pytestmark = pytest.mark.anyio
MIB = 1 << 20


@pytest.fixture
async def place(tmp_path):
    async with Place(tmp_path) as made:
        await made.create("a")
        await made.services.processes.start("a", ProcessSpec(argv=["sleep", "1000"]))
        await made.services.snapshots.create("a", SnapshotSpec(name="base", labels={"k": "v"}, description="d"))
        yield made


async def pieces(data, size=1000):
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def exported(place, ref="base"):
    async with place.services.snapshot_copies.content(ref) as reply:
        data = b"".join([chunk async for chunk in reply.stream()])
    assert int(reply.headers["content-length"]) == len(data)
    return data


async def added(place, data, name="copy", size=1000):
    return await place.services.snapshot_copies.add(pieces(data, size), name=name)


def stored(place):
    return {path.name for path in (place.home / "snapshots").glob("*")}


@pytest.mark.parametrize("size", [1, 511, 1 << 20])
async def test_what_goes_out_comes_in_again(place, size):
    before = await place.services.snapshots.get("base")
    after = await added(place, await exported(place), size=size)
    assert after.id != before.id and after.name == "copy"
    same = ("kind", "sandbox_id", "engine", "spec", "limits", "labels", "description", "files", "manifest")
    assert [getattr(after, field) for field in same] == [getattr(before, field) for field in same]
    await place.services.snapshots.verify("copy")
    await place.services.snapshots.remove("base")
    made = await place.services.sandboxes.create(SandboxSpec(snapshot="copy"))
    assert [process.state for process in await place.services.processes.list_for(made.id)] == ["running"]


async def test_the_manifest_is_first_and_others_can_read_it(place):
    snapshot = await place.services.snapshots.get("base")
    with tarfile.open(fileobj=io.BytesIO(await exported(place))) as archive:
        names = archive.getnames()
        assert names == ["cloche-snapshot.json", *(file.name for file in snapshot.files)]
        told = msgspec.json.decode(archive.extractfile(names[0]).read())
        assert [file["sha256"] for file in told["files"]] == [file.sha256 for file in snapshot.files]
        for file in snapshot.files:
            content = archive.extractfile(file.name).read()
            assert content == (place.home / "snapshots" / snapshot.id / file.name).read_bytes()


async def test_holes_are_not_sent_and_stay_holes(place):
    snapshot = await place.services.snapshots.get("base")
    data = await exported(place)
    assert len(data) < 100_000 < sum(file.size_bytes for file in snapshot.files)
    copy = await added(place, data)
    disk = place.home / "snapshots" / copy.id / "disk"
    assert disk.stat().st_blocks * 512 < disk.stat().st_size


async def test_an_archive_that_others_have_packed_without_holes_is_sparse_again(place):
    snapshot = await place.services.snapshots.get("base")
    packed = repacked(await exported(place))
    copy = await added(place, packed)
    disk = place.home / "snapshots" / copy.id / "disk"
    assert disk.stat().st_blocks * 512 < disk.stat().st_size and copy.files == snapshot.files


def repacked(data, change=lambda name, content: content, more=()):
    """The same archive, made by the standard library, with some contents changed."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for name in old.getnames():
            content = change(name, old.extractfile(name).read())
            if content is not None:
                put(new, name, content)
        for name, content in more:
            put(new, name, content)
    return out.getvalue()


def put(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def manifest(**changes):
    """Change the manifest: values, or functions of the value that was there. "snapshot.x" is a field inside."""

    def change(name, content):
        if name != "cloche-snapshot.json":
            return content
        told = msgspec.json.decode(content)
        for key, value in changes.items():
            *parents, last = key.split("__")
            at = told
            for parent in parents:
                at = at[parent]
            at[last] = value(at.get(last)) if callable(value) else value
        return msgspec.json.encode(told)

    return change


def files(change):
    return manifest(files=lambda found: [change(dict(file)) for file in found])


MOUNT = {"source": "/root", "target": "/x"}
HOSTILE = {
    "another version": manifest(version=2),
    "an unknown field": manifest(more=1),
    "a name of another rule": manifest(snapshot__name="../x"),
    "a name like an id": manifest(snapshot__name="sn_x"),
    "mounts of this host": manifest(snapshot__spec=lambda spec: {**spec, "mounts": [MOUNT]}),
    "host paths": manifest(snapshot__spec=lambda spec: {**spec, "host_paths": ["/root"]}),
    "a spec that is wrong": manifest(snapshot__spec=lambda spec: {**spec, "user": 7}),
    "limits out of range": manifest(snapshot__limits=lambda limits: {**limits, "pids": -1}),
    "no sandbox's id": manifest(snapshot__sandbox_id="\x1b[2J"),
    "an engine that is none": manifest(snapshot__engine="nothing"),
    "an engine's name that cannot be": manifest(snapshot__engine="../x"),
    "no files": manifest(files=[]),
    "a file twice": manifest(files=lambda found: [found[0], found[0]]),
    "a file's name with a way out": files(lambda file: {**file, "name": "../" + file["name"]}),
    "a file with a hidden name": files(lambda file: {**file, "name": "." + file["name"]}),
    "a file of negative size": files(lambda file: {**file, "size_bytes": -1}),
    "a file that is too large": files(lambda file: {**file, "size_bytes": 1 << 45}),
    "another checksum": files(lambda file: {**file, "sha256": "0" * 64}),
    "another size": files(lambda file: {**file, "size_bytes": file["size_bytes"] + 1}),
    "files that the engine does not know": manifest(manifest__files={"x": {}}),
    "another engine manifest": manifest(manifest__version=77),
    "a file less": lambda name, content: None if name == "disk" else content,
    "another content": lambda name, content: b"x" + content[1:] if name == "disk" else content,
    "a longer file": lambda name, content: content + b"x" if name == "disk" else content,
    "no manifest": lambda name, content: None if name == "cloche-snapshot.json" else content,
    "a manifest that is no JSON": lambda name, content: b"{" if name.endswith("t.json") else content,
    "an empty manifest": lambda name, content: b"" if name == "cloche-snapshot.json" else content,
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
async def test_what_is_no_snapshot_of_ours_is_refused_and_leaves_nothing(place, what):
    before = stored(place)
    with pytest.raises((InvalidError, UnavailableError, ClocheError)) as refused:
        await added(place, repacked(await exported(place), HOSTILE[what]))
    assert refused.value.code in ("invalid", "unavailable_here", "engine_failed"), refused.value
    assert stored(place) == before
    assert [record.snapshot.name for record in await place.store.snapshots(None)] == ["base"]


@pytest.mark.parametrize(
    "more", [[("more", b"x")], [("disk", b"x")], [("../x", b"x")], [("cloche-snapshot.json", b"{}")]]
)
async def test_entries_that_the_manifest_does_not_name_are_refused(place, more):
    before = stored(place)
    with pytest.raises(InvalidError):
        await added(place, repacked(await exported(place), more=more))
    assert stored(place) == before


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE, b"g"]
)
async def test_entries_that_are_no_plain_files_are_refused(place, kind):
    info = tarfile.TarInfo("disk")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(InvalidError):
        await added(place, info.tobuf(tarfile.PAX_FORMAT))


async def test_a_stream_that_is_cut_anywhere_leaves_nothing(place):
    data, before = await exported(place), stored(place)
    for cut in [0, 1, 511, 512, 700, 1500, 2048, len(data) // 2, len(data) - 1024 - 1, len(data) - 1025]:
        with pytest.raises(InvalidError):
            await added(place, data[:cut])
        assert stored(place) == before


async def test_something_behind_the_end_is_bounded(place):
    with pytest.raises(InvalidError):
        await added(place, await exported(place) + bytes(2 * MIB), size=1 << 16)


async def test_a_name_that_is_taken_leaves_nothing(place):
    before = stored(place)
    with pytest.raises(AlreadyExistsError):
        await added(place, await exported(place), name=None)
    assert stored(place) == before


async def test_no_room_is_said_before_it_is_full(place, monkeypatch):
    async def full():
        return 0

    monkeypatch.setattr(place.services._core.boxes, "free_bytes", full)
    before = stored(place)
    with pytest.raises(NoSpaceError):
        await added(place, await exported(place))
    assert stored(place) == before


async def test_whoever_stops_sending_leaves_nothing(place):
    data, before = await exported(place), stored(place)

    async def broken():
        yield data[: len(data) // 2]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await place.services.snapshot_copies.add(broken(), name="copy")
    assert stored(place) == before


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_are_an_error_and_never_a_crash(data):
    whole = _small()
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = whole[:at] + data.draw(st.binary(min_size=1, max_size=8)) + whole[at + data.draw(st.integers(0, 8)) :]

    async def read():
        source = Source(pieces(broken, 100))
        await snapshot_archive.read_manifest(source)
        while entry := await snapshot_archive.read_entry(source):
            assert sum(length for _, length in entry.extents) == entry.data_bytes <= len(broken)
            await source.exactly(entry.data_bytes)
            await source.exactly(entry.padding_bytes)

    try:
        asyncio.run(read())
    except InvalidError:
        pass


def _small():
    described = snapshot_archive.Described(
        name="n", kind="memory", sandbox_id="sb_" + "0" * 26, engine="fake", isolation="none", spec=SandboxSpec(),
        limits=Limits().resolved(), labels={}, description="", created_at=1.0,
    )  # fmt: skip
    file = SnapshotFile(name="disk", size_bytes=MIB, sha256="0" * 64)
    archive = Archive(version=1, snapshot=described, files=[file], manifest={})
    extents = [(0, 100), (65536, 1000)]
    head = snapshot_archive.manifest_entry(archive) + snapshot_archive.file_head(file, extents, 1.0)
    return head + b"x" * 1100 + snapshot_archive.padding(1100) + snapshot_archive.END
