"""`cloche suspend`."""

from __future__ import annotations

import click

from cloche.cli import arguments, many


@click.command("suspend")
@arguments.json_flag
@click.argument("boxes", nargs=-1, required=True, metavar="BOX…")
def command(boxes: tuple[str, ...], as_json: bool) -> int:
    """Put sandboxes into files, until `cloche resume`.

    Their processes, files and contexts are kept as they are, and they take no memory. They do not expire meanwhile,
    unless `cloche extend` says so. Needs an engine that can (--engine vm).
    """
    return many.each(boxes, lambda sandbox: sandbox.suspend(), as_json)
