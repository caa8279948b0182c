"""`cloche logs`."""

from __future__ import annotations

import sys

import click

from cloche.cli import arguments, attach, interrupts, logview, render
from cloche.model.errors import InvalidError, NotFoundError
from cloche.sdk._sync.node import Node
from cloche.sdk._sync.sandbox import Sandbox

NODE_LINES = 200
MAX_NODE_LINES = 10_000


@click.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on until the process ends.")
@click.option("-a", "--all", "every", is_flag=True, help="Of every process of the sandbox, not only the newest.")
@click.option("--stdout", "streams", flag_value="stdout", multiple=True, help="Standard output only.")
@click.option("--stderr", "streams", flag_value="stderr", multiple=True, help="Standard error only.")
@click.option("--node", "of_node", is_flag=True, help="The node's own log, as JSON lines.")
@click.option(
    "-n", "--tail", "--lines", "tail", type=click.IntRange(0, 1_000_000), metavar="N",
    help="Only the newest so many lines; without it all that is kept, and 200 of the node's.",
)  # fmt: skip
@arguments.json_flag
@click.argument("box", required=False)
@click.argument("process", required=False)
def command(
    box: str | None, process: str | None, follow: bool, every: bool, streams: tuple[str, ...], of_node: bool,
    tail: int | None, as_json: bool,
) -> int:  # fmt: skip
    """Show what processes wrote, or the node's log.

    Of BOX: what PROCESS wrote, or without it the newest process, or with --all every one. Standard error goes to
    standard error. With --json the list of its processes is printed instead.

    \b
    cloche logs -f work
    cloche logs --all -n 20 work
    cloche logs --node -f
    """
    if of_node and box is not None:
        raise InvalidError("--node goes without a sandbox: the node has one log", remedy="cloche logs --node")
    if not of_node and box is None:
        raise InvalidError("name a sandbox, or say --node", remedy="cloche logs BOX")
    if every and (of_node or process is not None):
        raise InvalidError("--all goes with a sandbox and without a process", remedy="cloche logs --all BOX")
    with interrupts.orderly():
        if box is None:
            return _node(NODE_LINES if tail is None else min(tail, MAX_NODE_LINES), follow)
        sandbox = Sandbox.from_id(box)
        if as_json:
            return _list(sandbox)
        only = streams[0] if len(set(streams)) == 1 else None
        _show(sandbox, process, follow, every, tail, only)
        return 0


def _show(sandbox: Sandbox, process: str | None, follow: bool, every: bool, tail: int | None, only: str | None) -> None:
    if every:
        show = logview.together if follow else logview.each
        show(sandbox, tail_lines=tail, only=only)
        return
    found = sandbox.process(process or _newest(sandbox))
    if tail is None:
        attach.show(found, follow=follow, only=only)
    else:
        logview.tail(found, tail, follow=follow, only=only)


def _node(lines: int, follow: bool) -> int:
    for line in Node().logs(lines=lines, follow=follow):
        attach.write_all(sys.stdout.fileno(), line)
    return 0


def _list(sandbox: Sandbox) -> int:
    import msgspec

    render.print_json({"sandbox": sandbox.id, "processes": msgspec.to_builtins(sandbox.processes())})
    return 0


def _newest(sandbox: Sandbox) -> str:
    known = sandbox.processes()
    if not known:
        raise NotFoundError(f"no process has run in {sandbox.id}", remedy=f"cloche exec {sandbox.id} -- …")
    return known[-1].id
