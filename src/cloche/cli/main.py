"""The command `cloche`: which commands there are, and how anything that goes wrong is told.

Only click is imported here; a command's own file, and the SDK with it, when it runs."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from cloche._version import __version__
from cloche.cli import failure, streams

#: name → what `cloche --help` says of it, so that help imports no command
COMMANDS = {
    "run": "Run a command in a new sandbox, then remove the sandbox.",
    "create": "Make a sandbox and leave it running.",
    "ls": "List sandboxes.",
    "inspect": "Show everything that is known of sandboxes.",
    "exec": "Run a command in a running sandbox.",
    "shell": "Open a terminal in a sandbox: a login shell (bash where there is one, else sh), or CMD.",
    "code": "Run code in an interpreter that keeps its state, or type it at the terminal.",
    "cp": "Copy files and trees between host and sandbox.",
    "logs": "Show what processes wrote, or the node's log.",
    "top": "Watch what sandboxes use, live.",
    "stats": "Show what sandboxes use.",
    "events": "Show what happened to sandboxes, oldest first.",
    "stop": "Stop sandboxes.",
    "start": "Start stopped sandboxes.",
    "pause": "Freeze sandboxes in memory.",
    "suspend": "Put sandboxes into files, until `cloche resume`.",
    "resume": "Let paused or suspended sandboxes go on.",
    "fork": "Make sandboxes that go on from where BOX is.",
    "snapshot": "Keep running sandboxes as they are, to go on from there.",
    "extend": "Move the time at which sandboxes expire.",
    "rm": "Remove sandboxes.",
    "policy": "See and change what sandboxes may reach.",
    "publish": "Let this machine reach a port of a sandbox.",
    "forward": "Carry connections to local ports into a sandbox, until Ctrl-C.",
    "template": "Name what is made often, and keep some of it warm.",
    "doctor": "Say what this machine can do, and how to make it do more.",
    "setup": "Fetch what ENGINE needs, such as the kernel for virtual machines.",
    "serve": "Run the node in the foreground, with its log on stderr, until Ctrl-C.",
    "completion": "Print the script that completes commands, options and sandboxes in a shell.",
    "mcp": "Serve sandboxes to an agent as tools, over the Model Context Protocol.",
    "node": "The node that owns the sandboxes.",
}
#: set by the script of `cloche completion`
COMPLETING = "_CLOCHE_COMPLETE"
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class LazyGroup(click.Group):
    """Knows its commands by name and imports a command's file when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = import_module(f"cloche.cli.commands.{cmd_name}").command
        assert isinstance(found, click.Command)
        _say_what_takes_long()
        if COMPLETING in os.environ:
            from cloche.cli import completing

            completing.attach(found)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _say_what_takes_long() -> None:
    """The first command of a day waits for a node to start; which command that is, nobody knows before."""
    launch = sys.modules.get("cloche.sdk.launch")
    if launch is not None:
        from cloche.cli import progress

        vars(launch)["while_starting"] = lambda: progress.waiting("starting the node")


@click.group(cls=LazyGroup, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="cloche", message="%(prog)s %(version)s")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def cli(quiet: bool) -> None:
    """Run code that nobody has reviewed, under glass.

    \b
    cloche run -- python3 -c "print(6 * 7)"
    """


def main() -> None:
    """Run, and exit with the status that DESIGN promises: the command's own, or 125 when Cloche failed."""
    status = 128 + signal.SIGINT
    with suppress(BaseException):
        streams.prepare()
        status = _guarded()
    with suppress(BaseException):
        status = streams.flush(status)
    # threads that wait for input must not keep a finished command alive
    os._exit(status)


def _guarded() -> int:
    try:
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        result: Any = cli.main(standalone_mode=False, prog_name="cloche")
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except SystemExit as left:
        # click answers a reader that went away with status 1, and leaves this in the place of stdout
        if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            return 128 + signal.SIGPIPE
        return left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    except Exception as error:
        return 0 if COMPLETING in os.environ else failure.report(error)
    except BaseException as ended:
        status = getattr(ended, "status", None)
        if not isinstance(status, int):
            raise
        return status


if __name__ == "__main__":
    main()
