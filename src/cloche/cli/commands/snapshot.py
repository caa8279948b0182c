"""`cloche snapshot`."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from cloche.cli import arguments, execution, failure, progress, render, snapshot_files
from cloche.cli.commands.inspect import readable
from cloche.model.errors import ClocheError
from cloche.sdk._sync.node import Node
from cloche.sdk.values import SnapshotInfo

_HEADINGS = ("ID", "NAME", "ENGINE", "IMAGE", "SIZE", "CREATED", "OF", "LABELS")
_DROPPED = ("IMAGE", "LABELS", "OF", "ENGINE", "CREATED")


@click.group("snapshot")
def command() -> None:
    """Keep running sandboxes as they are, to go on from there any number of times.

    \b
    cloche snapshot create work --name ready
    cloche run --snapshot ready -- make test
    """


@command.command("create")
@click.option("--name", metavar="NAME", help="A name, unique among snapshots.")
@click.option("-l", "--label", "labels", multiple=True, metavar="K[=V]", help="A label.")
@click.option("-d", "--description", metavar="WORDS", default="", help="What it is for.")
@arguments.json_flag
@click.argument("box", metavar="BOX")
def create(box: str, name: str | None, labels: Sequence[str], description: str, as_json: bool) -> int:
    """Keep BOX as it is now; it goes on. Prints the snapshot's id.

    Everything in its memory is in the snapshot, also what was never written to a disk. Needs an engine that can
    (--engine vm).
    """
    sandbox = execution.found(box)
    with progress.waiting(f"capturing {render.clean(box)}"):
        made = sandbox.snapshot(name=name, labels=arguments.pairs(labels), description=description)
    _show(made, as_json)
    return 0


@command.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@arguments.json_flag
def ls(quiet: bool, as_json: bool) -> int:
    """List snapshots, oldest first."""
    found = Node().snapshots.list()
    if as_json:
        render.print_json({"snapshots": msgspec.to_builtins(found)})
    elif quiet:
        render.write("".join(f"{snapshot.id}\n" for snapshot in found))
    else:
        render.print_table(_HEADINGS, [_row(snapshot) for snapshot in found], drop=_DROPPED)
    return 0


@command.command("inspect")
@arguments.json_flag
@click.argument("snapshot", metavar="SNAPSHOT")
def inspect(snapshot: str, as_json: bool) -> int:
    """Show everything that is known of a snapshot: to be read on a terminal, else as JSON."""
    found = msgspec.to_builtins(Node().snapshots.get(snapshot))
    if as_json or render.columns() is None:
        render.print_json(found)
    else:
        render.write(readable(found))
    return 0


@command.command("verify")
@arguments.json_flag
@click.argument("snapshots", nargs=-1, required=True, metavar="SNAPSHOT…")
def verify(snapshots: tuple[str, ...], as_json: bool) -> int:
    """Read snapshots whole: are they as they were written, and can this machine run them?"""
    status, done = 0, []
    for ref in snapshots:
        try:
            with progress.waiting(f"verifying {render.clean(ref)}"):
                done.append(Node().snapshots.verify(ref))
            if not as_json:
                render.write(f"{render.clean(ref)}: ok\n")
        except ClocheError as error:
            status = failure.report(error)
    if as_json:
        render.print_json({"verified": [snapshot.id for snapshot in done]})
    return status


@command.command("export")
@click.argument("snapshot", metavar="SNAPSHOT")
@click.argument("file", metavar="FILE")
def export(snapshot: str, file: str) -> int:
    """Write a snapshot to FILE, or to stdout (-), as a tar archive for `cloche snapshot import`.

    It holds everything that was in the sandbox's memory. FILE is readable by its owner only.
    """
    snapshot_files.write(Node().snapshots.export(snapshot), file)
    return 0


@command.command("import")
@click.option("--name", metavar="NAME", help="Another name than it had.")
@arguments.json_flag
@click.argument("file", metavar="FILE")
def import_(file: str, name: str | None, as_json: bool) -> int:
    """Take in a snapshot from FILE, or from stdin (-). Prints its id.

    It is checked before it is listed. Take only what you trust: a snapshot is a whole machine that was running.
    """
    with snapshot_files.read(file) as content:
        made = Node().snapshots.add(content, name=name)
    _show(made, as_json)
    return 0


@command.command("rm")
@arguments.json_flag
@click.argument("snapshots", nargs=-1, required=True, metavar="SNAPSHOT…")
def rm(snapshots: tuple[str, ...], as_json: bool) -> int:
    """Remove snapshots; sandboxes that were made from them go on."""
    status, done = 0, []
    for ref in snapshots:
        try:
            Node().snapshots.remove(ref)
            done.append(ref)
            if not as_json:
                render.write(f"{render.clean(ref)}\n")
        except ClocheError as error:
            status = failure.report(error)
    if as_json:
        render.print_json({"removed": done})
    return status


def _show(snapshot: SnapshotInfo, as_json: bool) -> None:
    if as_json:
        render.print_json(msgspec.to_builtins(snapshot))
    else:
        render.write(f"{snapshot.id}\n")


def _row(snapshot: SnapshotInfo) -> Sequence[object]:
    return (
        snapshot.id,
        snapshot.name,
        snapshot.engine,
        snapshot.spec.image,
        render.size(snapshot.size_bytes),
        render.ago(snapshot.created_at),
        snapshot.spec.name or snapshot.sandbox_id,
        render.labels(snapshot.labels),
    )
