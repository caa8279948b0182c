"""What only a database on a disk can do: be too new, be full, be read again."""

import asyncio
import sqlite3
import threading

import pytest

from cloche.model.errors import NoSpaceError, VersionMismatchError
from cloche.model.events import SandboxQuery
from cloche.store.migrate import migrate, migrations, version
from cloche.store.sqlite import SqliteStore
from tests.unit.store.test_store import put, record


def test_migrations_are_numbered_without_gaps():
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_newer_database_is_refused_and_untouched(tmp_path):
    path = tmp_path / "db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9999")
    with pytest.raises(VersionMismatchError):
        asyncio.run(SqliteStore.open(path))
    with sqlite3.connect(path) as connection:
        assert version(connection) == 9999
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_a_migration_that_fails_changes_nothing(tmp_path):
    connection = sqlite3.connect(tmp_path / "db", isolation_level=None)
    with pytest.raises(sqlite3.Error):
        migrate(connection, [(1, "CREATE TABLE a (x);"), (2, "CREATE TABLE b (x); CREATE TABLE a (x);")])
    assert version(connection) == 1
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]
    migrate(connection, [(1, "CREATE TABLE a (x);"), (2, "CREATE TABLE b (x);")])
    assert version(connection) == 2
    connection.close()


def test_rows_outlive_the_store(tmp_path):
    async def write():
        store = await SqliteStore.open(tmp_path / "db")
        row = await put(store, record("a"))
        await store.close()
        return row

    async def read():
        store = await SqliteStore.open(tmp_path / "db")
        rows = await store.select(None, SandboxQuery())
        await store.close()
        return rows

    row = asyncio.run(write())
    assert asyncio.run(read()) == [row]


def test_a_full_disk_is_no_space_and_leaves_nothing_of_the_row(tmp_path):
    async def fill():
        store = await SqliteStore.open(tmp_path / "db")
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(NoSpaceError):
            for _ in range(200):
                await put(store, record(env={"A": "x" * 5000}))
        kept = await store.select(None, SandboxQuery(limit=1000))
        assert {intent.sandbox_id for intent in await store.intents()} == {row.sandbox.id for row in kept}
        store._connection.execute("PRAGMA max_page_count = 1000000")
        await put(store, record("again"))
        await store.close()

    asyncio.run(fill())


def test_the_event_loop_does_not_wait_for_another_writer(tmp_path):
    async def write_while_locked():
        store = await SqliteStore.open(tmp_path / "db")
        other = sqlite3.connect(tmp_path / "db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(put(store, record()))
        turns = 0
        while turns < 100:
            await asyncio.sleep(0)
            turns += 1
        assert not writing.done()
        other.execute("COMMIT")
        await writing
        other.close()
        await store.close()

    asyncio.run(write_while_locked())


def test_no_thread_is_left(tmp_path):
    async def open_and_close():
        await (await SqliteStore.open(tmp_path / "db")).close()

    asyncio.run(open_and_close())
    left = [thread for thread in threading.enumerate() if thread.name.startswith("cloche-store")]
    for thread in left:
        thread.join(10)
    assert not any(thread.is_alive() for thread in left)
