"""`cloche logs`."""

from __future__ import annotations

import sys

import click

from cloche.cli import arguments, attach, interrupts, render
from cloche.model.errors import InvalidError, NotFoundError
from cloche.sdk._sync.node import Node
from cloche.sdk._sync.sandbox import Sandbox


@click.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on until the process ends.")
@click.option("--stdout", "only_stdout", is_flag=True, help="Standard output only.")
@click.option("--stderr", "only_stderr", is_flag=True, help="Standard error only.")
@click.option("--node", "of_node", is_flag=True, help="The node's own log, as JSON lines.")
@click.option("-n", "--lines", default=200, show_default=True, type=click.IntRange(0, 10_000), help="With --node.")
@arguments.json_flag
@click.argument("box", required=False)
@click.argument("process", required=False)
def command(
    box: str | None, process: str | None, follow: bool, only_stdout: bool, only_stderr: bool, of_node: bool,
    lines: int, as_json: bool,
) -> int:  # fmt: skip
    """Show what processes wrote, or the node's log.

    Of BOX: what PROCESS wrote, or without it the newest process. Standard error goes to standard error. With --json
    the list of its processes is printed instead.
    """
    if of_node == (box is not None):
        raise InvalidError("name a sandbox, or say --node", remedy="cloche logs BOX")
    with interrupts.orderly():
        if box is None:
            return _node(lines, follow)
        sandbox = Sandbox.from_id(box)
        if as_json:
            return _list(sandbox)
        only = "stdout" if only_stdout and not only_stderr else "stderr" if only_stderr and not only_stdout else None
        attach.show(sandbox.process(process or _newest(sandbox)), follow=follow, only=only)
        return 0


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
