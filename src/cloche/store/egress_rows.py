"""Traffic and published ports in the database: each function is the inside of one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

import msgspec

from cloche.store.base import PublishedPort, Traffic

_PUT_TRAFFIC = """
INSERT INTO egress (sandbox_id, sent_bytes, received_bytes)
SELECT :sandbox_id, :sent_bytes, :received_bytes WHERE EXISTS (SELECT 1 FROM sandboxes WHERE id = :sandbox_id)
ON CONFLICT (sandbox_id) DO UPDATE SET sent_bytes = :sent_bytes, received_bytes = :received_bytes
"""
_PUT_PORT = """
INSERT INTO publications (sandbox_id, port, slug, address_port, any_host)
SELECT :sandbox_id, :port, :slug, :address_port, :any_host WHERE EXISTS (SELECT 1 FROM sandboxes WHERE id = :sandbox_id)
ON CONFLICT (sandbox_id, port) DO UPDATE SET slug = :slug, address_port = :address_port,
    any_host = :any_host
"""


def put_traffic(db: sqlite3.Connection, traffic: Mapping[str, Traffic]) -> None:
    fields = [{"sandbox_id": sandbox_id, **msgspec.structs.asdict(each)} for sandbox_id, each in traffic.items()]
    db.executemany(_PUT_TRAFFIC, fields)


def traffic(db: sqlite3.Connection, sandbox_id: str) -> Traffic:
    row = db.execute("SELECT sent_bytes, received_bytes FROM egress WHERE sandbox_id = ?", (sandbox_id,)).fetchone()
    return Traffic() if row is None else Traffic(**dict(row))


def put_port(db: sqlite3.Connection, published: PublishedPort) -> bool:
    return db.execute(_PUT_PORT, msgspec.structs.asdict(published)).rowcount > 0


def ports(db: sqlite3.Connection, sandbox_id: str | None) -> list[PublishedPort]:
    where, values = ("", ()) if sandbox_id is None else ("WHERE sandbox_id = ?", (sandbox_id,))
    found = db.execute(f"SELECT * FROM publications {where} ORDER BY sandbox_id, port", values)  # noqa: S608
    return [PublishedPort(**{**row, "any_host": bool(row["any_host"])}) for row in found]


def delete_port(db: sqlite3.Connection, which: tuple[str, int]) -> bool:
    return db.execute("DELETE FROM publications WHERE sandbox_id = ? AND port = ?", which).rowcount > 0


def forget(db: sqlite3.Connection, sandbox_id: str) -> None:
    """What goes with the sandbox."""
    for table in ("egress", "publications"):
        db.execute(f"DELETE FROM {table} WHERE sandbox_id = ?", (sandbox_id,))  # noqa: S608
