"""`cloche rm`."""

from __future__ import annotations

import click

from cloche.cli import arguments, many
from cloche.model.errors import InvalidError
from cloche.sdk._sync.sandbox import Sandbox


@click.command("rm")
@click.option("-f", "--force", is_flag=True, help="Also those that live.")
@click.option("-a", "--all", "every", is_flag=True, help="All of them, or all with the labels.")
@click.option("-l", "--label", "labels", multiple=True, metavar="K[=V]", help="With --all: those with this label.")
@arguments.json_flag
@click.argument("boxes", nargs=-1, metavar="[BOX…]")
def command(boxes: tuple[str, ...], force: bool, every: bool, labels: tuple[str, ...], as_json: bool) -> int:
    """Remove sandboxes with everything in them.

    \b
    cloche rm -f work
    cloche rm -f --all --label team=docs
    """
    if bool(boxes) == every or (labels and not every):
        raise InvalidError("name the sandboxes, or say --all (and --label with it)", remedy="cloche rm BOX…")
    if every:
        boxes = tuple(box.id for box in Sandbox.list(labels=arguments.filters(labels)))
    return many.each(boxes, lambda sandbox: sandbox.remove(force=force), as_json)
