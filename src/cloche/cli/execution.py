"""What `run` and `exec` share: the flags of one command, and running it on this program's streams."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cloche.cli import arguments, attach, progress, render, temporary, terminal
from cloche.cli.failure import say
from cloche.cli.interrupts import Watch
from cloche.model.errors import InvalidError
from cloche.model.process import ProcessInfo
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.values import ExecResult

if TYPE_CHECKING:  # most commands ask nothing and are refused nothing
    from cloche.cli.asking import Source
    from cloche.model.egress import AuditLine

F = TypeVar("F", bound=Callable[..., Any])

_PROCESS = [
    click.option("-w", "--workdir", metavar="DIR", help="Where it starts; the user's home otherwise."),
    click.option("-u", "--user", metavar="USER", help="As whom it runs inside."),
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
        terminal.require()
    return chosen


def process_options(given: dict[str, Any]) -> dict[str, Any]:
    return {"cwd": given.pop("workdir"), "user": given.pop("user"), "timeout_seconds": given.pop("timeout")}


def run(
    sandbox: Sandbox, argv: tuple[str, ...], process: dict[str, Any], streams: Streams, as_json: bool, watch: Watch
) -> int:
    """Run it to its end → the exit status of this program. Call it with signals waiting."""
    if streams.terminal:
        process = {**process, "env": {**terminal.kind(), **process.get("env", {})}}
    pty, began = terminal.size() if streams.terminal else None, time.time()
    # no signal may come between the start and the moment from which it is known what is to be killed
    started = sandbox.spawn(*argv, stdin=streams.stdin, pty=pty, follow=True, **process)
    if as_json:
        ask_meanwhile(sandbox, began, stdin=streams.stdin)
        return _told(sandbox, attach.collect(started, watch, stdin=streams.stdin), began)
    asks = asks_of(sandbox, began, later=streams.terminal)
    status = status_of(attach.run(started, watch, asks, stdin=streams.stdin, terminal=streams.terminal))
    if status and not streams.terminal and sys.stderr.isatty() and (refused := told_refused(sandbox, began)):
        say(refused)
    return status


def asks_of(sandbox: Sandbox, began: float, *, later: bool = False) -> Source | None:
    """None: its policy asks nothing. `later`: what is begun lasts, and the policy may be another one meanwhile."""
    policy = sandbox.known.spec.egress
    asks_now = policy is not None and "ask" in (policy.default, *(rule.action for rule in policy.rules))
    if not (asks_now or later):
        return None
    from cloche.cli.asking import Source

    return Source(sandbox, began)


def ask_meanwhile(sandbox: Sandbox, began: float, *, stdin: bool) -> None:
    """The same for a command that shows nothing before its end. `stdin`: what is typed is the command's."""
    asks = asks_of(sandbox, began)
    if asks is not None:
        from cloche.cli import asking, gate

        asking.begin(asks, asking.face(gate.Gate(), stdin=stdin))


def found(box: str) -> Sandbox:
    """The sandbox of this id, name, or beginning of an id."""
    with progress.waiting("waiting for the node"):
        return Sandbox.from_id(box)


def status_of(info: ProcessInfo) -> int:
    """The exit status, after saying what the command could not say itself."""
    if info.error:
        name = info.argv[0] if info.argv and info.argv[0] not in info.error else ""
        say(f"cloche: {render.clean(f'{name}: {info.error}' if name else info.error)}")
    elif info.limit_hit:
        say(f"cloche: the command hit its {info.limit_hit} limit")
    return 255 if info.exit_code is None else info.exit_code


def _told(sandbox: Sandbox, result: ExecResult, began: float) -> int:
    from cloche.cli import refusals

    denied = refusals.as_json(_refused(sandbox, began, failed=result.exit_code != 0))
    render.print_json({"sandbox": sandbox.id, **result.to_json(), "denied": denied})
    return result.exit_code


def _refused(sandbox: Sandbox, began: float, *, failed: bool) -> list[AuditLine]:
    from cloche.cli import refusals

    # of one that is closed no times are known: only what a new one has tried was certainly this command's
    return refusals.since(sandbox, began, failed=failed) or (refusals.tried(sandbox) if _is_new(sandbox) else [])


def told_refused(sandbox: Sandbox, began: float) -> str:
    """What the policy refused since then (UTC seconds), which may be why what ran has failed; "": nothing."""
    from cloche.cli import refusals

    lines = _refused(sandbox, began, failed=True)
    if not lines:
        return ""
    words = refusals.words_for(sandbox, lines, whole=_is_new(sandbox))
    return refusals.told(lines, words, None if _is_new(sandbox) else sandbox.name or sandbox.id)


def _is_new(sandbox: Sandbox) -> bool:
    return temporary.LABEL in sandbox.known.labels
