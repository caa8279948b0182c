"""The SQL of the store: each function is the inside of one transaction."""

from __future__ import annotations

import sqlite3

from cloche.model.errors import NotFoundError
from cloche.model.events import Event, EventPage, EventQuery, SandboxQuery
from cloche.model.ids import is_id_prefix
from cloche.model.lifecycle import State
from cloche.model.sandbox import SandboxRecord
from cloche.store import egress_rows, rows
from cloche.store.base import MAX_CANDIDATES, RESTING, AuditLine, Intent, name_taken, not_waiting, wrong_state


def insert(db: sqlite3.Connection, record: SandboxRecord, intent: Intent) -> None:
    fields = rows.of_record(record)
    try:
        db.execute(rows.insertion("sandboxes", fields), fields)
    except sqlite3.IntegrityError as error:
        raise name_taken(record) from error
    _put_intent(db, intent)


def _put_intent(db: sqlite3.Connection, intent: Intent) -> None:
    fields = rows.of_intent(intent)
    db.execute(rows.insertion("intents", fields), fields)


def get(db: sqlite3.Connection, sandbox_id: str) -> SandboxRecord | None:
    row = db.execute("SELECT * FROM sandboxes WHERE id = ?", (sandbox_id,)).fetchone()
    return None if row is None else rows.to_record(row)


def find(db: sqlite3.Connection, project_id: str, ref: str) -> list[SandboxRecord]:
    exact = "SELECT * FROM sandboxes WHERE project_id = ? AND (id = ? OR name = ?)"
    found = db.execute(exact, (project_id, ref, ref)).fetchall()
    if not found and is_id_prefix(ref):
        begins = "SELECT * FROM sandboxes WHERE project_id = ? AND id >= ? AND id < ? ORDER BY id LIMIT ?"
        found = db.execute(begins, (project_id, ref, ref + "\x7f", MAX_CANDIDATES)).fetchall()
    return [rows.to_record(row) for row in found]


def select(db: sqlite3.Connection, project_id: str | None, query: SandboxQuery) -> list[SandboxRecord]:
    wheres, values = _conditions(project_id, query)
    sql = f"SELECT * FROM sandboxes WHERE {' AND '.join(wheres)} ORDER BY id LIMIT ?"  # noqa: S608
    return [rows.to_record(row) for row in db.execute(sql, (*values, query.limit))]


def _conditions(project_id: str | None, query: SandboxQuery) -> tuple[list[str], list[object]]:
    wheres: list[str] = ["id > ?"]
    values: list[object] = [query.cursor or ""]
    for column, wanted in (("project_id", project_id), ("name", query.name)):
        if wanted is not None:
            wheres.append(f"{column} = ?")
            values.append(wanted)
    if query.states:
        wheres.append(f"state IN ({', '.join('?' * len(query.states))})")
        values += sorted(query.states)
    for key, value in query.labels.items():
        also = "" if value is None else " AND value = ?"
        wheres.append(f"EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ?{also})")  # noqa: S608
        values += [key] if value is None else [key, value]
    return wheres, values


def transition(
    db: sqlite3.Connection, sandbox_id: str, from_states: frozenset[State], to: State, intent: Intent | None,
    changes: dict[str, object],
) -> SandboxRecord:  # fmt: skip
    before = get(db, sandbox_id)
    if before is None:
        raise NotFoundError(f"there is no sandbox {sandbox_id}")
    if before.sandbox.state not in from_states:
        raise wrong_state(before, from_states)
    fields = {"state": to, **rows.of_changes(changes)}
    sets = ", ".join(f"{column} = :{column}" for column in fields)
    db.execute(f"UPDATE sandboxes SET {sets} WHERE id = :id", {**fields, "id": sandbox_id})  # noqa: S608
    if intent is not None:
        _put_intent(db, intent)
    elif to in RESTING:
        db.execute("DELETE FROM intents WHERE sandbox_id = ?", (sandbox_id,))
    after = get(db, sandbox_id)
    assert after is not None
    return after


def claim(db: sqlite3.Connection, pool_key: str, record: SandboxRecord) -> None:
    fields = rows.of_record(record)
    sets = ", ".join(f"{column} = :{column}" for column in fields)
    waiting = f"UPDATE sandboxes SET {sets} WHERE id = :id AND pool_key = :was AND state = 'running'"  # noqa: S608
    try:
        claimed = db.execute(waiting, {**fields, "was": pool_key}).rowcount > 0
    except sqlite3.IntegrityError as error:
        raise name_taken(record) from error
    if not claimed:
        before = get(db, record.sandbox.id)
        if before is None:
            raise NotFoundError(f"there is no sandbox {record.sandbox.id}")
        raise not_waiting(before, pool_key)


def delete(db: sqlite3.Connection, sandbox_id: str) -> bool:
    gone = db.execute("DELETE FROM sandboxes WHERE id = ?", (sandbox_id,)).rowcount > 0
    egress_rows.forget(db, sandbox_id)
    db.execute("DELETE FROM intents WHERE sandbox_id = ?", (sandbox_id,))
    return gone


def record_event(db: sqlite3.Connection, event: Event) -> None:
    fields = rows.of_event(event)
    db.execute(rows.insertion("events", fields), fields)


def intents(db: sqlite3.Connection) -> list[Intent]:
    return [rows.to_intent(row) for row in db.execute("SELECT * FROM intents ORDER BY id")]


def events(db: sqlite3.Connection, sandbox_id: str, limit: int) -> list[Event]:
    newest = db.execute("SELECT * FROM events WHERE sandbox_id = ? ORDER BY id DESC LIMIT ?", (sandbox_id, limit))
    return [rows.to_event(row) for row in newest][::-1]


def newest_event(db: sqlite3.Connection) -> str:
    return db.execute("SELECT max(id) FROM events").fetchone()[0] or ""


def history(db: sqlite3.Connection, project_id: str, query: EventQuery) -> EventPage:
    """`lost`: whether the oldest that is kept came later than the one after which to begin."""
    wheres, values = _wanted(project_id, query)
    sql = f"SELECT * FROM events WHERE {wheres} ORDER BY id LIMIT ?"  # noqa: S608
    found = [rows.to_event(row) for row in db.execute(sql, (*values, query.limit + 1))]
    page, more = found[: query.limit], len(found) > query.limit
    cursor = page[-1].id if more else max(newest_event(db), query.after)
    oldest = db.execute("SELECT min(id) FROM events").fetchone()[0] or ""
    return EventPage(events=page, cursor=cursor, more=more, lost=bool(query.after) and oldest > query.after)


def before_newest(db: sqlite3.Connection, project_id: str, query: EventQuery, count: int) -> str:
    wheres, values = _wanted(project_id, query)
    sql = f"SELECT id FROM events WHERE {wheres} ORDER BY id DESC LIMIT 1 OFFSET ?"  # noqa: S608
    row = db.execute(sql, (*values, count)).fetchone()
    return query.after if row is None else str(row[0])


def _wanted(project_id: str, query: EventQuery) -> tuple[str, list[object]]:
    wheres = ["id > ?", "project_id = ?"]
    values: list[object] = [query.after, project_id]
    for condition, wanted in (("sandbox_id = ?", query.sandbox_id), ("at >= ?", query.since)):
        if wanted is not None:
            wheres.append(condition)
            values.append(wanted)
    if query.kinds:
        wheres.append(f"kind IN ({', '.join('?' * len(query.kinds))})")
        values += sorted(query.kinds)
    return " AND ".join(wheres), values


def audit(db: sqlite3.Connection, limit: int) -> list[AuditLine]:
    newest = db.execute("SELECT * FROM audit ORDER BY id DESC LIMIT ?", (limit,))
    return [rows.to_audit(row) for row in newest][::-1]
