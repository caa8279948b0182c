"""`cloche node`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from cloche.cli import arguments, render
from cloche.model.errors import TimedOutError
from cloche.sdk._sync.node import Node
from cloche.sdk.launch import default_home, listens, node_environment, peer_pid


@click.group("node")
def command() -> None:
    """The node that owns the sandboxes. It starts by itself when a command needs it, and leaves when it is idle."""


@command.command("status")
@arguments.json_flag
def status(as_json: bool) -> int:
    """Whether it runs; does not start it. Exits with 1 when it does not, with 124 when it does not answer."""
    home = Path(os.path.abspath(default_home()))
    if not listens(home):
        render.print_json({"status": "stopped", "home": str(home)}) if as_json else render.write(
            f"not running ({render.clean(home)})\n"
        )
        return 1
    health = _health(home)
    if as_json:
        render.print_json(health)
    else:
        render.write("".join(f"{key}: {render.clean(value)}\n" for key, value in health.items()))
    return 0


def _health(home: Path) -> dict[str, Any]:
    """Raises TimedOutError, with the command that ends a node that hangs: asking it to leave would wait for it too."""
    try:
        return Node(home).health()
    except TimedOutError as error:
        pid = peer_pid(home)
        raise TimedOutError(
            f"the node (pid {pid}) listens and does not answer: it hangs, or a signal has stopped it",
            remedy=f"kill -9 {pid}  (sandboxes go on; the next command starts a node that adopts them)",
        ) from error


@command.command("stop")
@click.option("--stop-sandboxes", is_flag=True, help="Stop what it owns too; otherwise the next node adopts it.")
@arguments.json_flag
def stop(stop_sandboxes: bool, as_json: bool) -> int:
    """Ask it to leave. Sandboxes go on unless told otherwise."""
    home = Path(os.path.abspath(default_home()))
    running = listens(home)
    if running:
        # one that hangs would never hear of it
        _health(home)
        Node(home).shutdown(stop_sandboxes=stop_sandboxes)
    if as_json:
        render.print_json({"was_running": running})
    return 0


@command.command("run")
def run() -> None:
    """Run it in the foreground, in place of this program."""
    environment = node_environment(os.environ)
    home = str(os.path.abspath(default_home()))
    os.execve(sys.executable, [sys.executable, "-P", "-m", "cloche.node", "--home", home], environment)  # noqa: S606
