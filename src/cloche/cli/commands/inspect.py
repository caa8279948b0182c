"""`cloche inspect`."""

from __future__ import annotations

import click
import msgspec

from cloche.cli import arguments, render
from cloche.sdk._sync.node import Node
from cloche.sdk._sync.sandbox import Sandbox


@click.command("inspect")
@click.option("--events", is_flag=True, help="What happened to them, too.")
@arguments.json_flag
@click.argument("boxes", nargs=-1, required=True, metavar="BOX…")
def command(boxes: tuple[str, ...], events: bool, as_json: bool) -> int:
    """Show everything that is known of sandboxes, as JSON: one object for one, a list for several."""
    found = []
    for box in boxes:
        info = Sandbox.from_id(box).info()
        shown = msgspec.to_builtins(info)
        found.append({**shown, "events": msgspec.to_builtins(list(Node().events(sandbox=info.id)))} if events else shown)
    render.print_json(found[0] if len(found) == 1 else found)
    return 0
