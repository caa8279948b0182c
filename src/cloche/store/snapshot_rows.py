"""Snapshots in the database: each function is the inside of one transaction."""

from __future__ import annotations

import sqlite3
from typing import Any

from cloche.guest_api import text
from cloche.model.limits import ResolvedLimits
from cloche.model.sandbox import SandboxSpec
from cloche.model.snapshot import Snapshot, SnapshotFile, SnapshotRecord
from cloche.store import rows
from cloche.store.base import snapshot_name_taken

_PLAIN = (
    "id", "project_id", "name", "kind", "sandbox_id", "engine", "isolation", "description", "created_at", "size_bytes",
)  # fmt: skip
_JSON: dict[str, Any] = {
    "spec": SandboxSpec, "limits": ResolvedLimits, "labels": dict[str, str], "files": list[SnapshotFile],
    "manifest": dict[str, Any],
}  # fmt: skip


def insert(db: sqlite3.Connection, record: SnapshotRecord) -> None:
    fields = _fields(record)
    try:
        db.execute(rows.insertion("snapshots", fields), fields)
    except sqlite3.IntegrityError as error:
        raise snapshot_name_taken(record) from error


def get(db: sqlite3.Connection, project_id: str, ref: str) -> SnapshotRecord | None:
    sql = "SELECT * FROM snapshots WHERE project_id = ? AND (id = ? OR name = ?)"
    row = db.execute(sql, (project_id, ref, ref)).fetchone()
    return None if row is None else _to_record(row)


def select(db: sqlite3.Connection, project_id: str | None) -> list[SnapshotRecord]:
    where, values = ("", ()) if project_id is None else ("WHERE project_id = ?", (project_id,))
    return [_to_record(row) for row in db.execute(f"SELECT * FROM snapshots {where} ORDER BY id", values)]  # noqa: S608


def replace(db: sqlite3.Connection, record: SnapshotRecord) -> bool:
    fields = _fields(record)
    sets = ", ".join(f"{column} = :{column}" for column in fields)
    return db.execute(f"UPDATE snapshots SET {sets} WHERE id = :id", fields).rowcount > 0  # noqa: S608


def delete(db: sqlite3.Connection, snapshot_id: str) -> bool:
    return db.execute("DELETE FROM snapshots WHERE id = ?", (snapshot_id,)).rowcount > 0


def _fields(record: SnapshotRecord) -> dict[str, object]:
    plain = {column: getattr(record.snapshot, column) for column in _PLAIN}
    return {**plain, **{column: rows.to_json(getattr(record.snapshot, column)) for column in _JSON},
            "state": record.state}  # fmt: skip


def _to_record(row: sqlite3.Row) -> SnapshotRecord:
    told = {column: text.decode(row[column].encode(), kind) for column, kind in _JSON.items()}
    snapshot = Snapshot(**{column: row[column] for column in _PLAIN}, **told)
    return SnapshotRecord(snapshot=snapshot, state=row["state"])
