"""`cloche pause`."""

from __future__ import annotations

import click

from cloche.cli import arguments, many


@click.command("pause")
@arguments.json_flag
@click.argument("boxes", nargs=-1, required=True, metavar="BOX…")
def command(boxes: tuple[str, ...], as_json: bool) -> int:
    """Freeze sandboxes in memory."""
    return many.each(boxes, lambda sandbox: sandbox.pause(), as_json)
