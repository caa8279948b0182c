"""What `run` and `exec` share: the flags of one command, and running it on this program's streams."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from cloche.cli import arguments, attach, interrupts, render
from cloche.cli.failure import say
from cloche.model.errors import InvalidError
from cloche.model.process import ProcessInfo
from cloche.sdk._sync.sandbox import Sandbox

F = TypeVar("F", bound=Callable[..., Any])

_PROCESS = [
    click.option("-w", "--workdir", metavar="DIR", help="Where it starts; the user's home otherwise."),
    click.option("-u", "--user", help="As whom it runs inside."),
    click.option("--timeout", type=arguments.DURATION, help="End the command after, such as 30s (status 124)."),
    click.option("-i", "--interactive", is_flag=True, help="Pass stdin on."),
    click.option("-t", "--tty", is_flag=True, help="Give it a terminal, joined to this one."),
]


@dataclass(frozen=True)
class Streams:
    stdin: bool
    terminal: bool


def process_flags(function: F) -> F:
    for option in reversed(_PROCESS):
        function = option(function)
    return function


def streams(given: dict[str, Any], as_json: bool) -> Streams:
    """Take -i and -t. Raises InvalidError when they cannot be had."""
    chosen = Streams(stdin=given.pop("interactive"), terminal=given.pop("tty"))
    if chosen.terminal and as_json:
        raise InvalidError("-t and --json exclude each other", remedy="leave one of them out")
    if chosen.terminal:
        attach.require_terminal()
    return chosen


def process_options(given: dict[str, Any]) -> dict[str, Any]:
    return {"cwd": given.pop("workdir"), "user": given.pop("user"), "timeout_seconds": given.pop("timeout")}


def run(sandbox: Sandbox, argv: tuple[str, ...], process: dict[str, Any], streams: Streams, as_json: bool) -> int:
    """Run it to its end → the exit status of this program."""
    if as_json:
        return _collected(sandbox, argv, process, streams)
    pty = attach.terminal_size() if streams.terminal else None
    started = sandbox.spawn(*argv, stdin=streams.stdin, pty=pty, **process)
    return status_of(attach.run(started, stdin=streams.stdin, terminal=streams.terminal))


def status_of(info: ProcessInfo) -> int:
    """The exit status, after saying what the command could not say itself."""
    if info.error:
        name = info.argv[0] if info.argv and info.argv[0] not in info.error else ""
        say(f"cloche: {render.clean(f'{name}: {info.error}' if name else info.error)}")
    elif info.limit_hit:
        say(f"cloche: the command hit its {info.limit_hit} limit")
    return 255 if info.exit_code is None else info.exit_code


def _collected(sandbox: Sandbox, argv: tuple[str, ...], process: dict[str, Any], streams: Streams) -> int:
    source = iter(lambda: os.read(0, attach.PIECE_BYTES), b"") if streams.stdin else None
    try:
        result = sandbox.exec(*argv, stdin=source, **process)
    except KeyboardInterrupt:
        raise interrupts.Ended(2) from None
    render.print_json({"sandbox": sandbox.id, **result.to_json()})
    return result.exit_code
