"""Templates in the database: each function is the inside of one transaction."""

from __future__ import annotations

import sqlite3

from cloche.guest_api import text
from cloche.model.sandbox import SandboxSpec
from cloche.model.template import Template, Warm
from cloche.store import rows

_REPLACE = """
INSERT INTO templates (project_id, name, spec, warm, created_at, updated_at)
VALUES (:project_id, :name, :spec, :warm, :created_at, :updated_at)
ON CONFLICT (project_id, name) DO UPDATE SET spec = :spec, warm = :warm, updated_at = :updated_at
"""


def put(db: sqlite3.Connection, template: Template) -> bool:
    new = get(db, template.project_id, template.name) is None
    db.execute(_REPLACE, _fields(template))
    return new


def get(db: sqlite3.Connection, project_id: str, name: str) -> Template | None:
    row = db.execute("SELECT * FROM templates WHERE project_id = ? AND name = ?", (project_id, name)).fetchone()
    return None if row is None else _to_template(row)


def select(db: sqlite3.Connection, project_id: str | None) -> list[Template]:
    where, values = ("", ()) if project_id is None else ("WHERE project_id = ?", (project_id,))
    found = db.execute(f"SELECT * FROM templates {where} ORDER BY project_id, name", values)  # noqa: S608
    return [_to_template(row) for row in found]


def delete(db: sqlite3.Connection, project_id: str, name: str) -> bool:
    return db.execute("DELETE FROM templates WHERE project_id = ? AND name = ?", (project_id, name)).rowcount > 0


def _fields(template: Template) -> dict[str, object]:
    return {
        "project_id": template.project_id, "name": template.name, "spec": rows.to_json(template.spec),
        "warm": rows.to_json(template.warm), "created_at": template.created_at, "updated_at": template.updated_at,
    }  # fmt: skip


def _to_template(row: sqlite3.Row) -> Template:
    return Template(
        name=row["name"], project_id=row["project_id"], spec=text.decode(row["spec"].encode(), SandboxSpec),
        warm=text.decode(row["warm"].encode(), Warm), created_at=row["created_at"], updated_at=row["updated_at"],
    )  # fmt: skip
