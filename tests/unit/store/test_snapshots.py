"""Snapshots, forks and what is suspended, in both stores."""

import sqlite3

import msgspec
import pytest

from cloche.model.errors import AlreadyExistsError, NotFoundError, WrongStateError
from cloche.model.ids import new_snapshot_id
from cloche.model.limits import Limits
from cloche.model.sandbox import SandboxSpec
from cloche.model.snapshot import Snapshot, SnapshotFile, SnapshotRecord
from cloche.store.migrate import migrate, migrations
from cloche.store.sqlite import SqliteStore
from tests.unit.store.test_store import event_for, intent_for, put, record, store

__all__ = ["store"]
pytestmark = pytest.mark.anyio
CREATING = frozenset({"creating"})
MANIFEST = {"version": 1, "odd": "\udcff", "size_bytes": 7}


def snapshot(name=None, *, project_id="default", state="ready"):
    made = Snapshot(
        id=new_snapshot_id(), project_id=project_id, name=name, kind="memory", sandbox_id="sb_x", engine="fake",
        isolation="none", spec=SandboxSpec(env={"A": "\udcff"}), limits=Limits().resolved(), labels={"k": "v"},
        description="d", created_at=1.5, size_bytes=1 << 40, manifest=MANIFEST,
        files=[SnapshotFile(name="disk", size_bytes=1, sha256="0" * 64)],
    )  # fmt: skip
    return SnapshotRecord(snapshot=made, state=state)


async def test_what_is_written_is_read(store):
    one, two = snapshot("a"), snapshot(state="creating")
    for row in (one, two):
        await store.insert_snapshot(row)
    assert await store.snapshots(None) == [one, two] == await store.snapshots("default")
    assert await store.snapshot("default", "a") == one == await store.snapshot("default", one.snapshot.id)
    assert await store.snapshot("other", "a") is None and await store.snapshots("other") == []


async def test_a_name_is_taken_also_by_one_that_is_being_made(store):
    await store.insert_snapshot(snapshot("a", state="creating"))
    with pytest.raises(AlreadyExistsError) as refused:
        await store.insert_snapshot(snapshot("a"))
    assert refused.value.details["name"] == "a"
    await store.insert_snapshot(snapshot("a", project_id="other"))
    assert len(await store.snapshots(None)) == 2


async def test_changes_and_removals_are_told_when_there_was_something(store):
    row = snapshot("a", state="creating")
    ready = SnapshotRecord(snapshot=msgspec.structs.replace(row.snapshot, size_bytes=9), state="ready")
    event = event_for(record())
    assert not await store.put_snapshot(ready, event)
    assert not await store.delete_snapshot(row.snapshot.id, event)
    assert await store.events(event.sandbox_id) == []
    await store.insert_snapshot(row)
    assert await store.put_snapshot(ready, event)
    assert await store.snapshots(None) == [ready]
    assert await store.delete_snapshot(row.snapshot.id, event_for(record()))
    assert await store.snapshots(None) == [] and len(await store.events(event.sandbox_id)) == 1


async def test_the_manifest_of_a_suspended_one_comes_and_goes(store):
    row = await put(store, record("a"))
    noted = await store.transition(row.sandbox.id, CREATING, "suspended", suspended=MANIFEST)
    assert noted.suspended == MANIFEST and (await store.get(row.sandbox.id)).suspended == MANIFEST
    kept = await store.transition(row.sandbox.id, frozenset({"suspended"}), "creating", reason="x")
    assert (kept.suspended, kept.sandbox.reason) == (MANIFEST, "x")
    assert (await store.transition(row.sandbox.id, CREATING, "running", suspended=None)).suspended is None


async def test_a_parent_is_kept(store):
    row = record("a")
    child = msgspec.structs.replace(row, sandbox=msgspec.structs.replace(row.sandbox, parent_id="sb_parent"))
    await store.insert(child, intent_for(child))
    assert (await store.get(row.sandbox.id)).sandbox.parent_id == "sb_parent"


async def test_several_become_what_they_are_to_be_together(store):
    family = [await put(store, record()) for _ in range(3)]
    ids = [row.sandbox.id for row in family]
    events = [event_for(row) for row in family]
    moved = await store.settle(ids, CREATING, "running", events=events, started_at=9.0)
    assert [(row.sandbox.id, row.sandbox.state, row.sandbox.started_at) for row in moved] == [
        (each, "running", 9.0) for each in ids
    ]
    assert await store.intents() == []
    assert [len(await store.events(each)) for each in ids] == [1, 1, 1]


@pytest.mark.parametrize("wrong", ["gone", "running"])
async def test_or_none_of_them_does(store, wrong):
    family = [await put(store, record()) for _ in range(2)]
    other = await put(store, record())
    if wrong == "gone":
        await store.delete(other.sandbox.id)
    else:
        await store.transition(other.sandbox.id, CREATING, "running")
    ids = [row.sandbox.id for row in (*family, other)]
    with pytest.raises((NotFoundError, WrongStateError)):
        await store.settle(ids, CREATING, "running", events=[event_for(family[0])])
    assert [(await store.get(row.sandbox.id)).sandbox.state for row in family] == ["creating", "creating"]
    assert len(await store.intents()) == 2 and await store.events(family[0].sandbox.id) == []


async def test_a_database_of_the_version_before_is_brought_up_to_date(tmp_path):
    old = sqlite3.connect(tmp_path / "db", isolation_level=None)
    migrate(old, migrations()[:2])
    row = record("a")
    columns = "id, state, engine, isolation, spec, limits, limits_unenforced, labels, engine_state, created_at"
    values = (row.sandbox.id, "stopped", "fake", "none", "{}", msgspec.json.encode(row.sandbox.limits).decode(), "[]",
              "{}", "{}", 1.0)  # fmt: skip
    old.execute(f"INSERT INTO sandboxes ({columns}) VALUES ({', '.join('?' * len(values))})", values)
    old.close()
    opened = await SqliteStore.open(tmp_path / "db")
    found = await opened.get(row.sandbox.id)
    assert (found.sandbox.parent_id, found.suspended, found.sandbox.spec) == (None, None, SandboxSpec())
    await opened.close()
