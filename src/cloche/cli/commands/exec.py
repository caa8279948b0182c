"""`cloche exec`: run in a sandbox that is there."""

from __future__ import annotations

from typing import Any

import click

from cloche.cli import arguments, execution, interrupts, render
from cloche.model.errors import InvalidError


@click.command("exec", context_settings=arguments.COMMAND_CONTEXT)
@click.option("-e", "--env", multiple=True, metavar="K[=V]", help="Environment; without a value the host's.")
@execution.process_flags
@click.option("-d", "--detach", is_flag=True, help="Print the process id and come back; `logs` shows its output.")
@arguments.json_flag
@click.argument("box", metavar="BOX")
@click.argument("argv", nargs=-1, required=True, metavar="[--] CMD…", type=click.UNPROCESSED)
def command(box: str, argv: tuple[str, ...], env: tuple[str, ...], detach: bool, as_json: bool, **given: Any) -> int:
    """Run a command in a running sandbox.

    BOX is an id, a name, or the beginning of an id; options go before it. Exits as `cloche run` does.

    \b
    cloche exec work -- python3 job.py
    cloche exec -e MODE=fast -w /tmp work -- sh -c 'echo $MODE'
    cloche exec -it work -- bash
    """
    argv = _command(argv)
    streams = execution.streams(given, as_json)
    process = {**execution.process_options(given), "env": arguments.environment(env)}
    with interrupts.watched() as watch:
        sandbox = watch.interruptible(lambda: execution.found(box))
        if detach:
            return _detached(sandbox.spawn(*argv, **process).id, sandbox.id, as_json)
        return execution.run(sandbox, argv, process, streams, as_json, watch)


def _command(argv: tuple[str, ...]) -> tuple[str, ...]:
    """What stands behind BOX. Raises InvalidError for an option that was meant for `exec` itself."""
    if argv == ("--",):
        raise InvalidError("nothing to run behind `--`", remedy="cloche exec BOX -- CMD…")
    if argv[0] == "--":
        return argv[1:]
    if argv[0].startswith("-"):
        raise InvalidError(f"options go before BOX: {argv[0]}", remedy=f"cloche exec {argv[0]} … BOX -- CMD…")
    return argv


def _detached(process_id: str, sandbox_id: str, as_json: bool) -> int:
    if as_json:
        render.print_json({"sandbox": sandbox_id, "process_id": process_id})
    else:
        render.write(f"{process_id}\n")
    return 0
