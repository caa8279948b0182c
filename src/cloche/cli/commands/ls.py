"""`cloche ls`."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from cloche.cli import arguments, cells, family, pools, render, tables, usage
from cloche.model.lifecycle import LIVING, STATES
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.values import SandboxInfo

_HEADINGS = ("ID", "NAME", "STATE", "ENGINE", "ISOLATION", "IMAGE", "NET", "CREATED", "EXPIRES", "LABELS")
_TREE_HEADINGS = ("ID", "NAME", "STATE", "ENGINE", "CREATED", "EXPIRES")
#: what a narrow terminal can do without, the first of them first
_DROPPED = ("ISOLATION", "IMAGE", "ENGINE", "EXPIRES", "LABELS", "NET", "CREATED")
NARROW = 60
#: of the words of a policy; `cloche policy show` has them all
MAX_NET = 32
#: from here on a tree has whole ids
WIDE_TREE = 100


@click.command("ls")
@click.option("-a", "--all", "every", is_flag=True, help="Stopped and failed ones too.")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Those in this state.")
@click.option("-l", "--label", "labels", multiple=True, metavar="K[=V]", help="Those with this label.")
@click.option("--tree", is_flag=True, help="Forks below what they were forked from.")
@click.option("--pool", is_flag=True, help="What waits ready instead, pool by pool.")
@arguments.json_flag
def command(
    every: bool, quiet: bool, states: Sequence[str], labels: Sequence[str], tree: bool, pool: bool, as_json: bool
) -> int:
    """List sandboxes: those that live or are suspended, oldest first."""
    if pool:
        return pools.show(as_json)
    wanted = [state for state in STATES if state in states] or ([] if every else sorted(LIVING | {"suspended"}))
    found = Sandbox.list(labels=arguments.filters(labels), states=wanted)
    if as_json:
        render.print_json({"sandboxes": msgspec.to_builtins(found)})
    elif quiet:
        render.write("".join(f"{box.id}\n" for box in found))
    elif tree:
        _show_tree([box.id for box in found])
    else:
        render.print_table(_HEADINGS, _rows(found), drop=_DROPPED)
    return 0


def _rows(found: Sequence[SandboxInfo]) -> list[Sequence[object]]:
    """Where a whole id would leave no room for anything else, its beginning: commands take that too."""
    columns = render.columns()
    short = columns is not None and columns < NARROW
    ids = usage.short_ids([box.id for box in found]) if short else {box.id: box.id for box in found}
    return [_row(box, ids[box.id]) for box in found]


def _show_tree(wanted: Sequence[str]) -> None:
    """With what is above them, whatever its state; what is gone is dim."""
    drawn = family.branches(Sandbox.list(), wanted)
    narrow = (render.columns() or WIDE_TREE) < WIDE_TREE
    ids = usage.short_ids([branch.id for branch in drawn]) if narrow else {branch.id: branch.id for branch in drawn}
    gone = {ids[branch.id] for branch in drawn if branch.box is None}
    cells = [[render.clean(cell) if cell else "-" for cell in _tree_row(branch, ids)] for branch in drawn]
    heading, *lines = tables.lines(_TREE_HEADINGS, cells, render.columns(), _DROPPED)
    render.write(f"{_styled(heading, 1)}\n")
    for line in lines:
        render.write(f"{_styled(line, 2) if line.split(' ', 1)[0] in gone else line}\n")


def _styled(line: str, style: int) -> str:
    """1: bold; 2: dim."""
    return f"\x1b[{style}m{line}\x1b[0m" if render.colours() else line


def _tree_row(branch: family.Branch, ids: dict[str, str]) -> Sequence[str | None]:
    shown, box = branch.drawn + ids[branch.id], branch.box
    if box is None:
        return (shown, None, "gone", None, None, None)
    return (shown, box.name, _state(box), box.engine, render.ago(box.created_at), render.ago(box.expires_at))


def _state(box: SandboxInfo) -> str:
    return f"{box.state} ({box.reason})" if box.reason and box.reason != box.state else box.state


def _net(box: SandboxInfo) -> str | None:
    """The words of its policy; the policy's part of the SDK is imported only where there is one."""
    if box.spec.egress is None:
        return None
    from cloche.sdk.egress_values import words

    return cells.cut(words(box.spec.egress), MAX_NET)


def _row(box: SandboxInfo, shown_id: str) -> Sequence[object]:
    return (
        shown_id,
        box.name,
        _state(box),
        box.engine,
        box.isolation,
        box.spec.image,
        _net(box),
        render.ago(box.created_at),
        render.ago(box.expires_at),
        render.labels(box.labels),
    )
