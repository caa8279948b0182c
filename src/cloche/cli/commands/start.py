"""`cloche start`."""

from __future__ import annotations

import click

from cloche.cli import arguments, many, session


@click.command("start")
@click.option("-f", "--file", "session_file", metavar="FILE", help="Session file: name, env, egress.")
@click.option("-e", "--env", multiple=True, metavar="K[=V]", help="Environment for this start, before the file's.")
@arguments.json_flag
@click.argument("boxes", nargs=-1, required=True, metavar="BOX…")
def command(boxes: tuple[str, ...], session_file: str | None, env: tuple[str, ...], as_json: bool) -> int:
    """Start stopped sandboxes.

    What a session says holds for this start and is never stored.
    """
    given = session.load(session_file) if session_file else session.Session()
    session_env = {**given.env, **arguments.environment(env)}
    return many.each(boxes, lambda sandbox: sandbox.start(session_env=session_env), as_json)
