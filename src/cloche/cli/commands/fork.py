"""`cloche fork`."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from cloche.cli import arguments, execution, progress, render
from cloche.model.snapshot import MAX_FORKS


@click.command("fork")
@click.option(
    "-n", "--count", type=click.IntRange(1, MAX_FORKS), metavar="N", default=1, show_default=True, help="How many."
)
@click.option(
    "--name", "names", multiple=True, metavar="NAME", help="A name; of several forks NAME-1, NAME-2 and so on."
)
@click.option("-l", "--label", "labels", multiple=True, metavar="K[=V]", help="A label, beside those of BOX.")
@click.option("--ttl", type=arguments.DURATION, help="Expire after so long; as BOX was made to when not given.")
@arguments.json_flag
@click.argument("box", metavar="BOX")
def command(box: str, count: int, names: Sequence[str], labels: Sequence[str], ttl: float | None, as_json: bool) -> int:
    """Make sandboxes that go on from where BOX is. Prints their ids.

    They have the same files, processes and contexts, all of one moment, and BOX goes on itself. All of them are made,
    or none. Needs an engine that can (--engine vm).

    \b
    cloche fork work
    cloche fork work -n 3 --name try
    """
    sandbox = execution.found(box)
    with progress.waiting(f"forking {render.clean(box)}"):
        made = sandbox.fork(count, names=_each(names, count), labels=arguments.pairs(labels), ttl_seconds=ttl)
    if as_json:
        render.print_json({"sandboxes": [msgspec.to_builtins(child.known) for child in made]})
    else:
        render.write("".join(f"{child.id}\n" for child in made))
    return 0


def _each(names: Sequence[str], count: int) -> Sequence[str]:
    """One name for several is the beginning of all of theirs."""
    if len(names) != 1 or count == 1:
        return names
    return [f"{names[0]}-{number}" for number in range(1, count + 1)]
