"""`cloche shell`: a terminal inside."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from cloche.cli import arguments, execution, interrupts, render, temporary, terminal
from cloche.cli.failure import say
from cloche.cli.interrupts import Watch
from cloche.model.errors import InvalidError
from cloche.sdk._sync.sandbox import Sandbox

#: the best shell that the image has. Prompts that distributions set give way to one that says where one is, own ones
#: stay; bash has read its files only when it prompts for the first time
_LOGIN = r"""
if command -v bash >/dev/null; then
  export CLOCHE_PLACE="$1"
  export PROMPT_COMMAND='
    case $PS1 in *\\u@\\h*|*\\s-\\v*) PS1="($CLOCHE_PLACE) \w \$ ";; esac
    unset PROMPT_COMMAND CLOCHE_PLACE'
  exec bash -l
fi
PS1="($1) \$PWD $ " exec sh -l
"""
_STREAMS = execution.Streams(stdin=True, terminal=True)
_OWN = ("workdir", "user", "env", "box", "argv")


@click.command("shell", context_settings=arguments.COMMAND_CONTEXT)
@arguments.sandbox_flags
@click.option("-w", "--workdir", metavar="DIR", help="Where it starts; the user's home otherwise.")
@click.option("-u", "--user", metavar="USER", help="As whom it runs inside.")
@click.argument("box", required=False, metavar="[BOX]")
@click.argument("argv", nargs=-1, metavar="[CMD…]", type=click.UNPROCESSED)
@click.pass_context
def command(context: click.Context, /, box: str | None, argv: tuple[str, ...], **given: Any) -> int:
    """Open a terminal in a sandbox: a login shell (bash where there is one, else sh), or CMD.

    Without BOX in a new sandbox, which the flags describe and which is removed afterwards. Every key goes inside,
    Ctrl-C, Ctrl-Z and Ctrl-\\ too; Ctrl-] three times within a second ends a shell that does not answer. Exits with
    the shell's own status.

    \b
    cloche shell
    cloche shell work
    cloche shell work -- python3
    """
    terminal.require("cloche run -- CMD, or cloche exec BOX -- CMD")
    process = {"cwd": given.pop("workdir"), "user": given.pop("user"), "env": arguments.environment(given["env"])}
    options = arguments.sandbox_options(given)
    with interrupts.watched() as watch:
        if box is None:
            return temporary.used(options, watch, lambda made: _new(made, process, watch))
        _require_no_flags(context)
        return _open(watch.interruptible(lambda: execution.found(box)), argv, process, watch)


def _new(made: Sandbox, process: dict[str, Any], watch: Watch) -> int:
    say(f"cloche: a new sandbox, {made.name or made.id}; it is removed when you leave")
    return _open(made, (), process, watch)


def _open(sandbox: Sandbox, argv: tuple[str, ...], process: dict[str, Any], watch: Watch) -> int:
    argv = argv[1:] if argv[:1] == ("--",) else argv
    if not argv:
        argv, process = _login(sandbox), {**process, "tag": render.SHELL_TAG}
    return execution.run(sandbox, argv, process, _STREAMS, False, watch)


def _login(sandbox: Sandbox) -> tuple[str, ...]:
    return ("/bin/sh", "-c", _LOGIN, "sh", sandbox.name or f"sb_…{sandbox.id[-4:].lower()}")


def _require_no_flags(context: click.Context) -> None:
    """Flags that describe a sandbox mean nothing to one that is there."""
    for param in context.command.params:
        name = param.name or ""
        if name not in _OWN and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise InvalidError(
                f"{param.opts[-1]} describes a new sandbox, and BOX is there already",
                remedy="leave BOX out, or the option",
            )
