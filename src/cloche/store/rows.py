"""Rows of the database and the values that they mean."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from cloche.guest_api import text
from cloche.model.events import Event
from cloche.model.limits import ResolvedLimits
from cloche.model.sandbox import Sandbox, SandboxRecord, SandboxSpec
from cloche.store.base import AuditLine, Intent

COLUMNS = (
    "id", "project_id", "name", "state", "reason", "engine", "isolation", "spec", "limits", "limits_unenforced",
    "labels", "engine_state", "created_at", "started_at", "expires_at", "idle_timeout_seconds", "stopped_at",
    "exit_code", "pool_key", "parent_id", "suspended",
)  # fmt: skip
_PLAIN = (
    "id", "project_id", "name", "state", "reason", "engine", "isolation", "created_at", "started_at", "expires_at",
    "stopped_at", "exit_code", "parent_id",
)  # fmt: skip


def to_json(value: object) -> str:
    """JSON as text; strings that stand for other bytes (lone surrogates) survive as escapes."""
    return text.encode(value).decode("utf-8")


def of_record(record: SandboxRecord) -> dict[str, Any]:
    sandbox = record.sandbox
    return {
        **{column: getattr(sandbox, column) for column in _PLAIN},
        "spec": to_json(sandbox.spec),
        "limits": to_json(sandbox.limits),
        "limits_unenforced": to_json(sandbox.limits_unenforced),
        "labels": to_json(sandbox.labels),
        "engine_state": to_json(record.engine_state),
        "idle_timeout_seconds": sandbox.spec.idle_timeout_seconds,
        "pool_key": record.pool_key,
        "suspended": None if record.suspended is None else to_json(record.suspended),
    }


def to_record(row: sqlite3.Row) -> SandboxRecord:
    fields: dict[str, Any] = {column: row[column] for column in _PLAIN}
    sandbox = Sandbox(
        spec=text.decode(row["spec"].encode(), SandboxSpec),
        limits=text.decode(row["limits"].encode(), ResolvedLimits),
        limits_unenforced=text.decode(row["limits_unenforced"].encode(), list[str]),
        labels=text.decode(row["labels"].encode(), dict[str, str]),
        **fields,
    )
    engine_state = text.decode(row["engine_state"].encode(), dict[str, Any])
    suspended = None if row["suspended"] is None else text.decode(row["suspended"].encode(), dict[str, Any])
    return SandboxRecord(sandbox=sandbox, engine_state=engine_state, pool_key=row["pool_key"], suspended=suspended)


def of_changes(changes: dict[str, Any]) -> dict[str, Any]:
    """Columns of `Changes`: what is no plain value is JSON."""
    given = ((name, changes.get(name)) for name in ("suspended", "spec"))
    return {**changes, **{name: to_json(value) for name, value in given if value is not None}}


def of_event(event: Event) -> dict[str, Any]:
    return {**msgspec.structs.asdict(event), "data": to_json(event.data)}


def to_event(row: sqlite3.Row) -> Event:
    return Event(**{**dict(row), "data": text.decode(row["data"].encode(), dict[str, Any])})


def of_audit(line: AuditLine) -> dict[str, Any]:
    return {**msgspec.structs.asdict(line), "data": to_json(line.data)}


def to_audit(row: sqlite3.Row) -> AuditLine:
    return AuditLine(**{**dict(row), "data": text.decode(row["data"].encode(), dict[str, Any])})


def of_intent(intent: Intent) -> dict[str, Any]:
    return msgspec.structs.asdict(intent)


def to_intent(row: sqlite3.Row) -> Intent:
    return Intent(**dict(row))


def insertion(table: str, fields: dict[str, Any]) -> str:
    """The names come from this package, never from a request."""
    return f"INSERT INTO {table} ({', '.join(fields)}) VALUES ({', '.join(':' + name for name in fields)})"  # noqa: S608
