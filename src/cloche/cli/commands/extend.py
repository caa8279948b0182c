"""`cloche extend`."""

from __future__ import annotations

import click

from cloche.cli import arguments, many
from cloche.model.errors import InvalidError


@click.command("extend")
@click.option("--ttl", type=arguments.DURATION, help="Expire so long from now, such as 1h.")
@click.option("--never", is_flag=True, help="Do not expire.")
@arguments.json_flag
@click.argument("boxes", nargs=-1, required=True, metavar="BOX…")
def command(boxes: tuple[str, ...], ttl: float | None, never: bool, as_json: bool) -> int:
    """Move the time at which sandboxes expire.

    \b
    cloche extend --ttl 1h work
    cloche extend --never work
    """
    if never == (ttl is not None):
        raise InvalidError("say either --ttl or --never", remedy="cloche extend --ttl 1h BOX")
    return many.each(boxes, lambda sandbox: sandbox.extend(ttl), as_json)
