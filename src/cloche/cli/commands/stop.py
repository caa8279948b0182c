"""`cloche stop`."""

from __future__ import annotations

import click

from cloche.cli import arguments, many


@click.command("stop")
@click.option("--grace", type=arguments.DURATION, default="5s", show_default=True, help="From SIGTERM to SIGKILL.")
@arguments.json_flag
@click.argument("boxes", nargs=-1, required=True, metavar="BOX…")
def command(boxes: tuple[str, ...], grace: float, as_json: bool) -> int:
    """Stop sandboxes. Their disk is kept where the engine can keep it."""
    return many.each(boxes, lambda sandbox: sandbox.stop(grace_seconds=grace), as_json)
