"""`cloche ls`."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from cloche.cli import arguments, render
from cloche.model.lifecycle import LIVING, STATES
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.values import SandboxInfo

_HEADINGS = ("ID", "NAME", "STATE", "ENGINE", "ISOLATION", "IMAGE", "CREATED", "EXPIRES", "LABELS")


@click.command("ls")
@click.option("-a", "--all", "every", is_flag=True, help="Stopped and failed ones too.")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Those in this state.")
@click.option("-l", "--label", "labels", multiple=True, metavar="K[=V]", help="Those with this label.")
@arguments.json_flag
def command(every: bool, quiet: bool, states: Sequence[str], labels: Sequence[str], as_json: bool) -> int:
    """List sandboxes: those that live, oldest first."""
    wanted = [state for state in STATES if state in states] or ([] if every else sorted(LIVING))
    found = Sandbox.list(labels=arguments.filters(labels), states=wanted)
    if as_json:
        render.print_json({"sandboxes": msgspec.to_builtins(found)})
    elif quiet:
        render.write("".join(f"{box.id}\n" for box in found))
    else:
        render.print_table(_HEADINGS, [_row(box) for box in found])
    return 0


def _row(box: SandboxInfo) -> Sequence[object]:
    state = f"{box.state} ({box.reason})" if box.reason and box.reason != box.state else box.state
    return (
        box.id,
        box.name,
        state,
        box.engine,
        box.isolation,
        box.spec.image,
        render.ago(box.created_at),
        render.ago(box.expires_at),
        render.labels(box.labels),
    )
