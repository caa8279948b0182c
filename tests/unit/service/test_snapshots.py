"""Snapshots: taken, listed, checked, removed, and sandboxes that begin from one."""

import asyncio

import msgspec
import pytest

from cloche.model import snapshot as rules
from cloche.model.errors import (
    AlreadyExistsError,
    EngineError,
    InvalidError,
    LimitHitError,
    NoSpaceError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)
from cloche.model.events import EventQuery
from cloche.model.limits import Limits
from cloche.model.process import ProcessSpec
from cloche.model.sandbox import Mount, SandboxSpec
from cloche.model.snapshot import SnapshotSpec
from cloche.model.template import TemplateSpec
from cloche.store.sqlite import SqliteStore
from tests.unit.service.place import Place

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
async def place(request, tmp_path):
    store = await SqliteStore.open(tmp_path / "db") if request.param == "sqlite" else None
    async with Place(tmp_path, store) as made:
        yield made


def stored(place):
    return sorted(path.name for path in (place.home / "snapshots").glob("*"))


async def take(place, ref="a", name=None, **asked):
    return await place.services.snapshots.create(ref, SnapshotSpec(name=name, **asked))


async def begin(place, snapshot, name=None, said=None, session_env=None, **spec):
    asked = SandboxSpec(name=name, snapshot=snapshot, **spec)
    return await place.services.sandboxes.create(asked, said=said, session_env=session_env)


async def environment(place, ref):
    process = await place.services.processes.start(ref, ProcessSpec(argv=["env"]))
    async with place.services.processes._access.guest("default", ref) as guest:
        async with guest.output(process.id, follow=True) as frames:
            said = b"".join([frame.payload async for frame in frames if frame.kind == 2])
    return dict(line.split("=", 1) for line in said.decode().splitlines())


async def test_a_snapshot_says_what_it_is(place):
    parent = await place.create("a", limits=Limits(pids=20))
    snapshot = await take(place, "a", "base", labels={"k": "v"}, description="after the imports")
    assert snapshot.id.startswith("sn_") and snapshot.kind == "memory"
    assert (snapshot.name, snapshot.labels, snapshot.description) == ("base", {"k": "v"}, "after the imports")
    assert (snapshot.sandbox_id, snapshot.engine, snapshot.limits.pids) == (parent.id, "fake", 20)
    assert {file.name for file in snapshot.files} == {"disk", "memory.json"} and snapshot.size_bytes > 0
    for ref in ("base", snapshot.id, snapshot.id[:12], snapshot.id.upper()):
        assert await place.services.snapshots.get(ref) == snapshot
    assert (await place.services.snapshots.all()).snapshots == [snapshot]
    assert (await place.services.sandboxes.get("a")).state == "running"
    newest = (await place.store.history("default", EventQuery())).events[-1]
    assert (newest.kind, newest.sandbox_id, newest.data["snapshot"]) == ("snapshot.created", parent.id, snapshot.id)


async def test_sandboxes_begin_from_it_also_when_the_first_is_gone(place):
    await place.create("a", env={"A": "1"}, ttl_seconds=50)
    process = await place.services.processes.start("a", ProcessSpec(argv=["sleep", "1000"]))
    snapshot = await take(place, "a", "base")
    await place.services.sandboxes.remove("a")
    one, two = [await begin(place, ref) for ref in ("base", snapshot.id)]
    for made in (one, two):
        assert (made.spec.snapshot, made.expires_at) == (snapshot.id, place.clock.now() + 50)
        assert (await place.services.processes.get(made.id, process.id)).state == "running"
        assert made.parent_id is None
    await place.services.snapshots.remove("base")
    assert stored(place) == [] and (await place.services.processes.get(one.id, process.id)).state == "running"


async def test_what_may_differ_does(place):
    await place.create("a", env={"A": "1", "B": "1"}, ttl_seconds=50, labels={"old": ""})
    await take(place, "a", "base")
    made = await begin(place, "base", "b", env={"B": "2"}, labels={"new": ""}, ttl_seconds=7, hostname="h",
                       session_env={"C": "3"})  # fmt: skip
    assert (made.name, made.labels, made.expires_at) == ("b", {"new": ""}, place.clock.now() + 7)
    seen = await environment(place, "b")
    assert [seen[name] for name in "ABC"] == ["1", "2", "3"]


async def test_what_is_not_said_stays_in_the_memory_of_the_capture(place):
    asked = SandboxSpec(name="a", env={"A": "1"})
    await place.services.sandboxes.create(asked, session_env={"SECRET": "kept in memory"})
    await take(place, "a", "base")
    await begin(place, "base", "b")
    assert (await environment(place, "b"))["SECRET"] == "kept in memory"


@pytest.mark.parametrize(
    ("field", "given"),
    [("image", "debian"), ("engine", "namespace"), ("limits.pids", Limits(pids=7)), ("hide", ["/usr/x"]),
     ("mounts", [Mount(source="/usr", target="/x")]), ("isolation", "vm")],
)  # fmt: skip
async def test_what_contradicts_is_refused(place, field, given):
    await place.create("a")
    await take(place, "a", "base")
    with pytest.raises(InvalidError) as refused:
        await begin(place, "base", **{field.partition(".")[0]: given})
    assert refused.value.details["field"] == field
    assert len((await place.services.sandboxes.find()).sandboxes) == 1


async def test_what_is_said_again_is_no_contradiction(place):
    await place.create("a", limits=Limits(pids=20))
    await take(place, "a", "base")
    said = frozenset({"image", "engine", "limits"})
    await begin(place, "base", said=said, image="host", engine="auto", limits=Limits(pids=20, disk_mib=1024))


async def test_a_snapshot_and_a_template_are_not_combined(place):
    with pytest.raises(InvalidError):
        await begin(place, "base", template="t")
    with pytest.raises(InvalidError):
        await place.services.templates.put("t", TemplateSpec(spec=SandboxSpec(snapshot="base")))


@pytest.mark.parametrize("stage", ["capture", "capture:half"])
async def test_one_that_fails_leaves_nothing(place, stage):
    await place.create("a")
    place.engine.fail_next(stage, NoSpaceError("full"))
    with pytest.raises(NoSpaceError):
        await take(place, "a", "base")
    assert stored(place) == [] and await place.store.snapshots(None) == [] and await place.store.intents() == []
    assert (await place.services.sandboxes.get("a")).state == "running"
    await take(place, "a", "base")


@pytest.mark.parametrize("stage", ["restore", "restore:half", "open_channel"])
async def test_a_sandbox_that_cannot_begin_leaves_nothing(place, stage):
    parent = await place.create("a")
    snapshot = await take(place, "a", "base")
    place.engine.fail_next(stage, EngineError("broken", stage=stage))
    with pytest.raises(EngineError):
        await begin(place, "base")
    assert place.left() == [parent.id] and stored(place) == [snapshot.id]
    await place.services.snapshots.remove("base")


async def test_names_are_unique_and_may_not_look_like_ids(place):
    await place.create("a")
    await take(place, "a", "base")
    with pytest.raises(AlreadyExistsError):
        await take(place, "a", "base")
    for name in ("sn_x", "A b", ""):
        with pytest.raises(InvalidError):
            await take(place, "a", name)
    await place.services.snapshots.remove("base")
    await take(place, "a", "base")


async def test_unknown_and_ambiguous_references(place):
    await place.create("a")
    one, two = await take(place), await take(place)
    same = next(at for at in range(30) if one.id[at] != two.id[at])
    for ref in ("nothing", "sn_0", one.id[:3], "sn_zzzz"):
        with pytest.raises(NotFoundError):
            await place.services.snapshots.get(ref)
    with pytest.raises(InvalidError):
        await place.services.snapshots.get(one.id[: max(same, 7)])


async def test_only_what_lives_is_taken(place):
    await place.create("a")
    await place.services.sandboxes.stop("a", grace_seconds=0)
    with pytest.raises(WrongStateError) as refused:
        await take(place, "a")
    assert refused.value.remedy == "cloche start a"


async def test_file_systems_are_for_later(place):
    await place.create("a")
    with pytest.raises(UnavailableError):
        await take(place, "a", kind="filesystem")


async def test_there_are_only_so_many(place, monkeypatch):
    monkeypatch.setattr(rules, "MAX_SNAPSHOTS", 1)
    await place.create("a")
    await take(place)
    with pytest.raises(LimitHitError):
        await take(place)


async def test_damage_is_found(place):
    await place.create("a")
    snapshot = await take(place, "a", "base")
    assert await place.services.snapshots.verify("base") == snapshot
    disk = place.home / "snapshots" / snapshot.id / "disk"
    with disk.open("r+b") as file:
        file.write(b"x")
    with pytest.raises(EngineError, match="disk is not what was written"):
        await place.services.snapshots.verify("base")
    with pytest.raises(EngineError, match="damaged"):
        await begin(place, "base")
    disk.unlink()
    with pytest.raises(EngineError, match="disk is missing"):
        await place.services.snapshots.verify("base")
    await place.services.snapshots.remove("base")


async def test_one_that_is_used_just_now_is_not_removed(place):
    await place.create("a")
    await take(place, "a", "base")
    arrived, on = asyncio.Event(), asyncio.Event()

    async def wait_there(point):
        if point == "unfreeze.row_written":
            arrived.set()
            await on.wait()

    place.services._core.observer = wait_there
    making = asyncio.ensure_future(begin(place, "base"))
    await arrived.wait()
    with pytest.raises(WrongStateError):
        await place.services.snapshots.remove("base")
    on.set()
    await making
    await place.services.snapshots.remove("base")


async def test_what_a_killed_node_left_half_is_gone(place):
    await place.create("a")
    whole = await take(place, "a", "base")
    half = msgspec.structs.replace(whole, id="sn_" + "0" * 26, name="half")
    await place.store.insert_snapshot(rules.SnapshotRecord(snapshot=half, state="creating"))
    (place.home / "snapshots" / half.id).mkdir()
    (place.home / "snapshots" / "stranger").mkdir()
    await place.restart()
    assert stored(place) == [whole.id]
    assert (await place.services.snapshots.all()).snapshots == [whole]
