"""`cloche resume`."""

from __future__ import annotations

import click

from cloche.cli import arguments, many


@click.command("resume")
@arguments.json_flag
@click.argument("boxes", nargs=-1, required=True, metavar="BOX…")
def command(boxes: tuple[str, ...], as_json: bool) -> int:
    """Let paused or suspended sandboxes go on."""
    return many.each(boxes, lambda sandbox: sandbox.resume(), as_json)
