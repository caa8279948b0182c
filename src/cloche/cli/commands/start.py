"""`cloche start`."""

from __future__ import annotations

import click

from cloche.cli import arguments, many, session
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.egress_options import Net


@click.command("start")
@click.option("-f", "--file", "session_file", metavar="FILE", help="Session file: name, env, egress.")
@click.option("-e", "--env", multiple=True, metavar="K[=V]", help="Environment for this start, before the file's.")
@arguments.json_flag
@click.argument("boxes", nargs=-1, required=True, metavar="BOX…")
def command(boxes: tuple[str, ...], session_file: str | None, env: tuple[str, ...], as_json: bool) -> int:
    """Start stopped sandboxes.

    What a session says of the environment holds for this start and is never stored; its policy is kept.
    """
    given = session.load(session_file) if session_file else session.Session()
    session_env = {**given.env, **arguments.environment(env)}
    return many.each(boxes, lambda sandbox: _start(sandbox, session_env, given.net), as_json)


def _start(sandbox: Sandbox, session_env: dict[str, str], net: Net) -> None:
    if net is not None:
        sandbox.set_policy(net)
    sandbox.start(session_env=session_env)
