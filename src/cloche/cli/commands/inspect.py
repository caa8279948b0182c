"""`cloche inspect`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from cloche.cli import arguments, cells, render
from cloche.cli.commands import events
from cloche.model.egress import EgressPolicy, Secret
from cloche.model.events import Event
from cloche.sdk._sync.node import Node
from cloche.sdk._sync.sandbox import Sandbox

#: below this, values stand right behind their names
WIDE = 60


@click.command("inspect")
@click.option("--events", is_flag=True, help="What happened to them, too.")
@arguments.json_flag
@click.argument("boxes", nargs=-1, required=True, metavar="BOX…")
def command(boxes: tuple[str, ...], events: bool, as_json: bool) -> int:
    """Show everything that is known of sandboxes.

    On a terminal to be read; elsewhere, and with --json, as JSON: one object for one sandbox, a list for several.
    """
    found = []
    for box in boxes:
        info = Sandbox.from_id(box).info()
        shown = msgspec.to_builtins(info)
        found.append(
            {**shown, "events": msgspec.to_builtins(list(Node().events(sandbox=info.id)))} if events else shown
        )
    if as_json or not sys.stdout.isatty():
        render.print_json(found[0] if len(found) == 1 else found)
    else:
        render.write("\n".join(readable(_with_words(each)) for each in found))
    return 0


def _with_words(found: dict[str, Any]) -> dict[str, Any]:
    """With the policy as people write it, and secrets too."""
    spec = found.get("spec", {})
    if not spec.get("egress") and not spec.get("secrets"):
        return found
    from cloche.cli import policyview
    from cloche.sdk.egress_values import words

    policy = msgspec.convert(spec.get("egress"), EgressPolicy | None)
    kept = [policyview.secret(msgspec.convert(secret, Secret)) for secret in spec.get("secrets", [])]
    return {**found, "spec": {**spec, "egress": words(policy), "secrets": kept}}


def readable(found: dict[str, Any]) -> str:
    """Names and values, one below the other; what is not set is left out."""
    columns = render.columns() or 80
    return "".join(_lines(found, 0, columns))


def _lines(found: dict[str, Any], depth: int, columns: int) -> Iterator[str]:
    for key, value in found.items():
        name = "  " * depth + render.clean(key)
        if value in (None, {}, []):
            continue
        if isinstance(value, dict):
            yield f"{name}\n"
            yield from _lines(value, depth + 1, columns)
        elif isinstance(value, list) and all(isinstance(each, dict) for each in value):
            yield f"{name}\n"
            yield from (f"{'  ' * depth}  {_event(each)}\n" if key == "events" else
                        f"{'  ' * depth}  {_joined(each)}\n" for each in value)  # fmt: skip
        else:
            yield f"{cells.fit(name, max(24, cells.width(name)) if columns >= WIDE else cells.width(name))} "
            yield f"{_value(key, value)}\n"


def _event(found: dict[str, Any]) -> str:
    return events.line(msgspec.convert({**found, "sandbox_id": ""}, Event), {}, None)


def _joined(found: dict[str, Any]) -> str:
    return " ".join(f"{render.clean(key)}={render.clean(value)}" for key, value in found.items())


def _value(key: str, value: object) -> str:
    if isinstance(value, float) and key.endswith("_at"):
        return f"{render.clock(value)} ({render.ago(value)})"
    return ", ".join(map(render.clean, value)) if isinstance(value, list) else render.clean(value)
