"""`cloche serve`: the node where one can watch it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from cloche.cli.failure import say
from cloche.cli.render import clean
from cloche.model.errors import AlreadyExistsError
from cloche.sdk.launch import default_home, listens, node_environment


@click.command("serve")
@click.option("--socket", metavar="PATH", help="Answer on this unix socket too, for this user and root only.")
@click.option("--stop-sandboxes", is_flag=True, help="Stop what runs when leaving; otherwise the next node adopts it.")
def command(socket: str | None, stop_sandboxes: bool) -> None:
    """Run the node in the foreground, with its log on stderr, until Ctrl-C.

    It does not leave when it is idle. Sandboxes go on when it leaves, unless told otherwise.
    """
    home = Path(os.path.abspath(default_home()))
    if listens(home):
        raise AlreadyExistsError(f"a node already serves {home}", remedy="cloche node stop, then cloche serve")
    # the node works in another directory, so a relative path would mean nothing to it
    also = os.path.abspath(socket) if socket else None
    _say(home, also, stop_sandboxes)
    program = [sys.executable, "-P", "-m", "cloche.node", "--foreground", "--idle-seconds", "0", "--home", str(home)]
    if also:
        program += ["--also-listen", also]
    if stop_sandboxes:
        program.append("--stop-sandboxes")
    os.execve(sys.executable, program, node_environment(os.environ))  # noqa: S606


def _say(home: Path, also: str | None, stop_sandboxes: bool) -> None:
    places = f"{home}/node.sock" + (f" and {also}" if also else "")
    fate = "are stopped then" if stop_sandboxes else "go on without it"
    say(f"cloche: serving {clean(places)}; Ctrl-C leaves, sandboxes {fate}")
