"""`cloche ls`."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from cloche.cli import arguments, pools, render, usage
from cloche.model.lifecycle import LIVING, STATES
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.values import SandboxInfo

_HEADINGS = ("ID", "NAME", "STATE", "ENGINE", "ISOLATION", "IMAGE", "CREATED", "EXPIRES", "LABELS")
#: what a narrow terminal can do without, the first of them first
_DROPPED = ("ISOLATION", "IMAGE", "ENGINE", "EXPIRES", "LABELS", "CREATED")
NARROW = 60


@click.command("ls")
@click.option("-a", "--all", "every", is_flag=True, help="Stopped and failed ones too.")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Those in this state.")
@click.option("-l", "--label", "labels", multiple=True, metavar="K[=V]", help="Those with this label.")
@click.option("--pool", is_flag=True, help="What waits ready instead, pool by pool.")
@arguments.json_flag
def command(every: bool, quiet: bool, states: Sequence[str], labels: Sequence[str], pool: bool, as_json: bool) -> int:
    """List sandboxes: those that live, oldest first."""
    if pool:
        return pools.show(as_json)
    wanted = [state for state in STATES if state in states] or ([] if every else sorted(LIVING))
    found = Sandbox.list(labels=arguments.filters(labels), states=wanted)
    if as_json:
        render.print_json({"sandboxes": msgspec.to_builtins(found)})
    elif quiet:
        render.write("".join(f"{box.id}\n" for box in found))
    else:
        render.print_table(_HEADINGS, _rows(found), drop=_DROPPED)
    return 0


def _rows(found: Sequence[SandboxInfo]) -> list[Sequence[object]]:
    """Where a whole id would leave no room for anything else, its beginning: commands take that too."""
    columns = render.columns()
    short = columns is not None and columns < NARROW
    ids = usage.short_ids([box.id for box in found]) if short else {box.id: box.id for box in found}
    return [_row(box, ids[box.id]) for box in found]


def _row(box: SandboxInfo, shown_id: str) -> Sequence[object]:
    state = f"{box.state} ({box.reason})" if box.reason and box.reason != box.state else box.state
    return (
        shown_id,
        box.name,
        state,
        box.engine,
        box.isolation,
        box.spec.image,
        render.ago(box.created_at),
        render.ago(box.expires_at),
        render.labels(box.labels),
    )
