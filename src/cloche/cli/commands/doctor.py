"""`cloche doctor`."""

from __future__ import annotations

from typing import Any

import click

from cloche.cli import arguments, render
from cloche.sdk._sync.node import Node

_MARKS = {"ok": "ok", "missing": "MISSING", "degraded": "degraded", "info": "info"}


@click.command("doctor")
@arguments.json_flag
def command(as_json: bool) -> int:
    """Say what this machine can do, and how to make it do more. Exits with 1 when no engine is usable."""
    found = Node().doctor()
    if as_json:
        render.print_json(found)
    else:
        _tell(found)
    return 0 if any(engine.get("usable") for engine in found.get("engines", [])) else 1


def _tell(found: dict[str, Any]) -> None:
    render.print_table(
        ("ENGINE", "USABLE", "ISOLATION"),
        [
            (
                engine["name"] + (" (auto)" if engine["name"] == found.get("auto") else ""),
                "yes" if engine["usable"] else "no",
                engine["isolation"],
            )
            for engine in found.get("engines", [])
        ],
    )
    render.write("\n")
    render.print_table(
        ("ENGINE", "CHECK", "STATUS", "FOUND"),
        [
            (
                check.get("engine") or "machine",
                check["id"],
                _MARKS.get(check["status"], check["status"]),
                check["summary"],
            )
            for check in found.get("checks", [])
        ],
    )
    remedies = [check for check in found.get("checks", []) if check.get("remedy")]
    if remedies:
        render.write(
            "\nTo mend:\n"
            + "".join(f"  {render.clean(check['id'])}: {render.clean(check['remedy'])}\n" for check in remedies)
        )
