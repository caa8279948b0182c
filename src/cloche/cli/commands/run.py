"""`cloche run`: make, run, remove."""

from __future__ import annotations

from typing import Any

import click

from cloche.cli import arguments, execution, interrupts, temporary


@click.command("run", context_settings=arguments.COMMAND_CONTEXT)
@arguments.sandbox_flags
@execution.process_flags
@click.option("--keep", is_flag=True, help="Leave the sandbox running afterwards.")
@arguments.json_flag
@click.argument("argv", nargs=-1, required=True, metavar="[--] CMD…", type=click.UNPROCESSED)
def command(argv: tuple[str, ...], keep: bool, as_json: bool, **given: Any) -> int:
    """Run a command in a new sandbox, then remove the sandbox.

    Exits with the command's own status; 124 when it timed out, 125 when Cloche failed, 126 when it cannot be executed,
    127 when it is not found.

    \b
    cloche run -- python3 -c 'print(6 * 7)'
    cloche run --timeout 30s --memory 1g -v ./project:/work:ro -w /work -- make test
    cat data.csv | cloche run -i -- wc -l
    """
    streams = execution.streams(given, as_json)
    process = execution.process_options(given)
    options = arguments.sandbox_options(given)
    # what -e says is stronger than what the terminal says of itself
    process["env"] = options["env"]
    with interrupts.watched() as watch:
        return temporary.used(
            options, watch, lambda made: execution.run(made, argv, process, streams, as_json, watch), keep=keep
        )
