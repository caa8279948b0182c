"""Numbered SQL files, each applied once and whole. `PRAGMA user_version` says which is the last."""

from __future__ import annotations

import re
import sqlite3
from importlib import resources

from cloche.model.errors import VersionMismatchError

_FILE = re.compile(r"(\d{4})_\w+\.sql")


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) in order."""
    files = resources.files("cloche.store.migrations").iterdir()
    found = [(match, file) for file in files if (match := _FILE.fullmatch(file.name))]
    return sorted((int(match[1]), file.read_text("utf-8")) for match, file in found)


def migrate(connection: sqlite3.Connection, known: list[tuple[int, str]] | None = None) -> None:
    """Bring the database up to date. Raises VersionMismatchError when a newer Cloche has written it."""
    known = migrations() if known is None else known
    have = version(connection)
    latest = known[-1][0]
    if have > latest:
        raise VersionMismatchError(
            f"the data directory was written by a newer Cloche (schema {have}; this one knows {latest})",
            remedy="upgrade cloche, or set CLOCHE_HOME to another directory",
            found=have, known=latest,
        )  # fmt: skip
    for number, sql in known:
        if number > have:
            _apply(connection, number, sql)


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _apply(connection: sqlite3.Connection, number: int, sql: str) -> None:
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {sql} PRAGMA user_version = {number}; COMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
