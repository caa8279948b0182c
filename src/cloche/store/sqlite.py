"""The store in one SQLite file. One thread owns the connection that writes, so the event loop never waits for a disk.
What every request looks up, one row by its key, is read in the loop's own thread: it is in memory, and going to another
thread and back costs several times as much as the read."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

import msgspec

from cloche.model.errors import ClocheError, InvalidError, NoSpaceError
from cloche.model.events import Event, EventPage, EventQuery, SandboxQuery
from cloche.model.ids import following
from cloche.model.lifecycle import State
from cloche.model.sandbox import SandboxRecord
from cloche.model.snapshot import SnapshotRecord
from cloche.model.template import Template
from cloche.store import egress_rows, rows, snapshot_rows, statements, template_rows
from cloche.store.base import (
    EVENTS_PER_SANDBOX,
    EVENTS_TOTAL,
    AuditLine,
    Changes,
    Intent,
    PublishedPort,
    Traffic,
)
from cloche.store.migrate import migrate

T = TypeVar("T")
P = ParamSpec("P")
BUSY_TIMEOUT_SECONDS = 10.0
_PRAGMAS = ("journal_mode = WAL", "synchronous = NORMAL", "temp_store = MEMORY", "trusted_schema = OFF")
RESERVE_PAGES = 32
#: what SQLite says instead of "full" when its shared memory file cannot grow
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}


class SqliteStore:
    """`await SqliteStore.open(path)`; the file and its directory's rights are the caller's."""

    def __init__(
        self, connection: sqlite3.Connection, reader: sqlite3.Connection, thread: ThreadPoolExecutor, *,
        events_per_sandbox: int = EVENTS_PER_SANDBOX, events_total: int = EVENTS_TOTAL,
    ) -> None:  # fmt: skip
        self._connection, self._reader = connection, reader
        self._thread = thread
        self._per_sandbox, self._total = events_per_sandbox, events_total
        self._until_prune = 0
        self._newest: str | None = None
        self._pruned = ""
        self._listener: tuple[asyncio.AbstractEventLoop, Callable[[], None]] | None = None

    @classmethod
    async def open(cls, path: Path, **bounds: int) -> Self:
        """Raises VersionMismatchError for a newer database, NoSpaceError on a full disk."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cloche-store")
        try:
            connection, reader = await asyncio.get_running_loop().run_in_executor(thread, _connect_both, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(connection, reader, thread, **bounds)

    async def insert(self, record: SandboxRecord, intent: Intent) -> None:
        await self._write(statements.insert, record, intent)

    async def get(self, sandbox_id: str) -> SandboxRecord | None:
        return _translated(statements.get, self._reader, sandbox_id)

    async def find(self, project_id: str, ref: str) -> list[SandboxRecord]:
        return _translated(statements.find, self._reader, project_id, ref)

    async def select(self, project_id: str | None, query: SandboxQuery) -> list[SandboxRecord]:
        return await self._read(statements.select, project_id, query)

    async def transition(
        self, sandbox_id: str, from_states: frozenset[State], to: State, *,
        intent: Intent | None = None, event: Event | None = None, **changes: Unpack[Changes],
    ) -> SandboxRecord:  # fmt: skip
        return await self._write(self._transition, sandbox_id, from_states, to, intent, event, {**changes})

    async def settle(
        self, sandbox_ids: Sequence[str], from_states: frozenset[State], to: State, *,
        events: Sequence[Event], **changes: Unpack[Changes],
    ) -> list[SandboxRecord]:  # fmt: skip
        return await self._write(self._settle, sandbox_ids, from_states, to, events, {**changes})

    async def claim(self, pool_key: str, record: SandboxRecord, event: Event) -> SandboxRecord:
        await self._write(self._claim, pool_key, record, event)
        return record

    async def delete(self, sandbox_id: str, event: Event | None = None) -> bool:
        return await self._write(self._delete, sandbox_id, event)

    async def intents(self) -> list[Intent]:
        return await self._read(statements.intents)

    async def add_event(self, event: Event) -> None:
        await self._write(self._add_event, event)

    async def events(self, sandbox_id: str, limit: int = EVENTS_PER_SANDBOX) -> list[Event]:
        return await self._read(statements.events, sandbox_id, limit)

    async def history(self, project_id: str, query: EventQuery) -> EventPage:
        return await self._read(self._history, project_id, query)

    async def before_newest(self, project_id: str, query: EventQuery, count: int) -> str:
        return await self._read(statements.before_newest, project_id, query, count)

    def on_event(self, listener: Callable[[], None] | None) -> None:
        self._listener = None if listener is None else (asyncio.get_running_loop(), listener)

    async def put_template(self, template: Template) -> bool:
        return await self._write(template_rows.put, template)

    async def template(self, project_id: str, name: str) -> Template | None:
        return await self._read(template_rows.get, project_id, name)

    async def templates(self, project_id: str | None) -> list[Template]:
        return await self._read(template_rows.select, project_id)

    async def delete_template(self, project_id: str, name: str) -> bool:
        return await self._write(template_rows.delete, project_id, name)

    async def insert_snapshot(self, record: SnapshotRecord) -> None:
        await self._write(snapshot_rows.insert, record)

    async def snapshot(self, project_id: str, ref: str) -> SnapshotRecord | None:
        return await self._read(snapshot_rows.get, project_id, ref)

    async def snapshots(self, project_id: str | None) -> list[SnapshotRecord]:
        return await self._read(snapshot_rows.select, project_id)

    async def put_snapshot(self, record: SnapshotRecord, event: Event | None = None) -> bool:
        return await self._write(self._with_event, snapshot_rows.replace, record, event)

    async def delete_snapshot(self, snapshot_id: str, event: Event | None = None) -> bool:
        return await self._write(self._with_event, snapshot_rows.delete, snapshot_id, event)

    async def put_traffic(self, traffic: Mapping[str, Traffic]) -> None:
        await self._write(egress_rows.put_traffic, traffic)

    async def traffic(self, sandbox_id: str) -> Traffic:
        return _translated(egress_rows.traffic, self._reader, sandbox_id)

    async def put_port(self, published: PublishedPort, event: Event | None = None) -> bool:
        return await self._write(self._with_event, egress_rows.put_port, published, event)

    async def ports(self, sandbox_id: str | None) -> list[PublishedPort]:
        return _translated(egress_rows.ports, self._reader, sandbox_id)

    async def delete_port(self, sandbox_id: str, port: int, event: Event | None = None) -> bool:
        return await self._write(self._with_event, egress_rows.delete_port, (sandbox_id, port), event)

    async def add_audit(self, line: AuditLine) -> None:
        fields = rows.of_audit(line)
        await self._write(lambda db: db.execute(rows.insertion("audit", fields), fields))

    async def audit(self, limit: int = 1000) -> list[AuditLine]:
        return await self._read(statements.audit, limit)

    async def close(self) -> None:
        self._reader.close()
        await self._submit(self._connection.close)
        self._thread.shutdown(wait=False)

    def _transition(
        self, db: sqlite3.Connection, sandbox_id: str, from_states: frozenset[State], to: State,
        intent: Intent | None, event: Event | None, changes: dict[str, object],
    ) -> SandboxRecord:  # fmt: skip
        moved = statements.transition(db, sandbox_id, from_states, to, intent, changes)
        if event is not None:
            self._add_event(db, event)
        return moved

    def _settle(
        self, db: sqlite3.Connection, sandbox_ids: Sequence[str], from_states: frozenset[State], to: State,
        events: Sequence[Event], changes: dict[str, object],
    ) -> list[SandboxRecord]:  # fmt: skip
        moved = [statements.transition(db, each, from_states, to, None, changes) for each in sandbox_ids]
        for event in events:
            self._add_event(db, event)
        return moved

    def _with_event(
        self, db: sqlite3.Connection, change: Callable[[sqlite3.Connection, Any], bool], what: object,
        event: Event | None,
    ) -> bool:  # fmt: skip
        """An event is written only when there was something to change."""
        changed = change(db, what)
        if changed and event is not None:
            self._add_event(db, event)
        return changed

    def _claim(self, db: sqlite3.Connection, pool_key: str, record: SandboxRecord, event: Event) -> None:
        statements.claim(db, pool_key, record)
        self._add_event(db, event)

    def _delete(self, db: sqlite3.Connection, sandbox_id: str, event: Event | None) -> bool:
        gone = statements.delete(db, sandbox_id)
        if gone and event is not None:
            self._add_event(db, event)
        return gone

    def _add_event(self, db: sqlite3.Connection, event: Event) -> None:
        newest = self._newest if self._newest is not None else statements.newest_event(db)
        event = event if event.id > newest else msgspec.structs.replace(event, id=following(newest))
        statements.record_event(db, event)
        # also when this is rolled back: an id may be skipped and never come twice
        self._newest = event.id
        self._prune(db, "sandbox_id = :sandbox", {"sandbox": event.sandbox_id, "keep": self._per_sandbox})
        self._until_prune -= 1
        if self._until_prune < 0:
            # finding the oldest to keep walks over all that are kept: not for every event
            self._until_prune = self._total // 64
            self._prune(db, "TRUE", {"keep": self._total})
        if self._listener is not None:
            loop, listener = self._listener
            # the connection is this thread's alone: who reads because of this reads after the commit
            loop.call_soon_threadsafe(listener)

    def _prune(self, db: sqlite3.Connection, which: str, values: dict[str, object]) -> None:
        oldest = f"SELECT id FROM events WHERE {which} ORDER BY id DESC LIMIT 1 OFFSET :keep"  # noqa: S608
        row = db.execute(oldest, values).fetchone()
        if row is not None:
            db.execute(f"DELETE FROM events WHERE {which} AND id <= :last", {**values, "last": row[0]})  # noqa: S608
            self._pruned = max(self._pruned, row[0])

    def _history(self, db: sqlite3.Connection, project_id: str, query: EventQuery) -> EventPage:
        page = statements.history(db, project_id, query)
        lost = page.lost or (query.after != "" and self._pruned > query.after)
        return msgspec.structs.replace(page, lost=lost)

    async def _read(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kw: P.kwargs) -> T:
        return await self._submit(work, self._connection, *args, **kw)

    async def _write(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kw: P.kwargs) -> T:
        return await self._submit(_even_on_a_full_disk, work, self._connection, *args, **kw)

    async def _submit(self, work: Callable[..., T], *args: Any, **kw: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: _translated(work, *args, **kw))


def _connect_both(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    writer = _writer(path)
    try:
        return writer, _reader(path)
    except BaseException:
        writer.close()
        raise


def _reader(path: Path) -> sqlite3.Connection:
    with _opened(path) as reader:
        reader.execute("PRAGMA query_only = ON")
        return reader


def _writer(path: Path) -> sqlite3.Connection:
    with _opened(path) as writer:
        for pragma in _PRAGMAS:
            writer.execute(f"PRAGMA {pragma}")
        migrate(writer)
        _reserve(writer)
        return writer


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to be set up in the block; it stays open unless that fails."""
    with _failures():
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        try:
            yield connection
        except BaseException:
            connection.close()
            raise


def _reserve(db: sqlite3.Connection) -> None:
    """Room in the file and in its log that a removal finds when the disk has none left."""
    kept = db.execute("PRAGMA freelist_count").fetchone()[0]
    try:
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE reserve (room BLOB)")
        db.execute("INSERT INTO reserve VALUES (zeroblob(?))", (RESERVE_PAGES * 4096,))
        db.execute("DROP TABLE reserve")
        db.execute("COMMIT")
        if kept < RESERVE_PAGES:
            db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    except sqlite3.OperationalError:
        # no room for it: the node is still good for everything that needs none
        if db.in_transaction:
            db.execute("ROLLBACK")


def _translated(work: Callable[..., T], *args: Any, **kw: Any) -> T:
    with _failures():
        return work(*args, **kw)


def _even_on_a_full_disk(work: Callable[..., T], db: sqlite3.Connection, *args: Any, **kw: Any) -> T:
    """A full disk must not keep anybody from removing what fills it: once the log's content is in the database, the
    log begins anew in the room that it has."""
    try:
        return _in_transaction(work, db, *args, **kw)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) not in _NO_ROOM:
            raise
        db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        return _in_transaction(work, db, *args, **kw)


def _in_transaction(work: Callable[..., T], db: sqlite3.Connection, *args: Any, **kw: Any) -> T:
    db.execute("BEGIN IMMEDIATE")
    try:
        done = work(db, *args, **kw)
        db.execute("COMMIT")
    except BaseException:
        # a full disk may have rolled it back already
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return done


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        raise InvalidError(f"text that cannot be stored: {error.reason}") from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in _NO_ROOM:
            raise NoSpaceError("no room for Cloche's database", remedy="free some space under CLOCHE_HOME") from error
        raise ClocheError(f"the database failed: {error}", remedy="cloche doctor") from error
