"""`cloche create`."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from cloche.cli import arguments, render, session, temporary


@click.command("create")
@arguments.sandbox_flags
@click.option("-w", "--workdir", metavar="DIR", help="Where its commands start.")
@click.option("-u", "--user", metavar="USER", help="As whom its commands run.")
@click.option("-f", "--file", "session_file", metavar="FILE", help="Session file: name, env, egress.")
@arguments.json_flag
def command(session_file: str | None, workdir: str | None, user: str | None, as_json: bool, **given: Any) -> int:
    """Make a sandbox and leave it running. Prints its id.

    The environment of a session file is never stored; that of -e is. Flags win over the file.

    \b
    cloche create --name work --memory 2g --ttl 1h
    cloche create --name shared -v ./data:/work:ro -l team=docs
    """
    given_session = session.load(session_file) if session_file else session.Session()
    options = arguments.sandbox_options(given)
    options["name"] = options["name"] or given_session.name
    options.update(workdir=workdir, **({"user": user} if user else {}))
    if given_session.net is not None:
        options.setdefault("net", given_session.net)
    made = temporary.making({**options, "session_env": given_session.env})
    if as_json:
        render.print_json(msgspec.to_builtins(made.info()))
    else:
        render.write(f"{made.id}\n")
    return 0
