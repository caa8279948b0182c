"""`cloche run`: make, run, remove."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from cloche.cli import arguments, execution, interrupts
from cloche.cli.failure import say
from cloche.model.errors import ClocheError, NotFoundError, TimedOutError
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.wire import ConnectionLostError

#: marks what `run` made; its value is one per call, by which an interrupted create is found again
RUN_LABEL = "cloche.run"


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
    """
    streams = execution.streams(given, as_json)
    process = execution.process_options(given)
    options = arguments.sandbox_options(given)
    token = os.urandom(8).hex()
    if not keep:
        options["labels"] = {**options["labels"], RUN_LABEL: token}
    with interrupts.orderly(), _sandbox(options, token, keep) as sandbox:
        return execution.run(sandbox, argv, process, streams, as_json)


@contextmanager
def _sandbox(options: dict[str, Any], token: str, keep: bool) -> Iterator[Sandbox]:
    made: Sandbox | None = None
    refused = False
    try:
        made = _create(options)
        yield made
    except _NothingMadeError as nothing:
        refused = True
        raise nothing.reason from None
    finally:
        if not keep and not refused:
            with interrupts.shielded():
                _remove(made, token)
        elif made is not None:
            say(f"cloche: kept {made.id}")


def _create(options: dict[str, Any]) -> Sandbox:
    try:
        return Sandbox.create(**options)
    except (ConnectionLostError, TimedOutError):
        raise
    except ClocheError as error:
        raise _NothingMadeError(error) from error


class _NothingMadeError(Exception):
    """The node refused, so there is nothing to look for and remove."""

    def __init__(self, reason: ClocheError) -> None:
        super().__init__(reason.message)
        self.reason = reason


def _remove(made: Sandbox | None, token: str) -> None:
    try:
        if made is not None:
            with suppress(NotFoundError):
                made.remove()
            return
        for left in Sandbox.list(labels={RUN_LABEL: token}):
            Sandbox.from_id(left.id).remove()
    except NotFoundError:
        pass
    except ClocheError as error:
        if made is not None:
            say(f"cloche: the sandbox {made.id} could not be removed: {error.message}")
