"""`cloche publish`."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from cloche.cli import arguments, execution, render
from cloche.model.egress import Publication
from cloche.model.errors import NotFoundError
from cloche.model.lifecycle import LIVING
from cloche.sdk._sync.sandbox import Sandbox

PORT = click.IntRange(1, 65535)


class _Publish(click.Group):
    """`publish BOX PORT` means `publish add BOX PORT`, since that is what nearly everybody wants."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((word for word in args if not word.startswith("-")), None)
        if first is not None and first not in self.commands:
            args = ["add", *args]
        return super().parse_args(ctx, args)


@click.group("publish", cls=_Publish)
def command() -> None:
    """Let this machine reach a port of a sandbox.

    Prints a URL that stays the same, for browsers, HTTP and WebSockets. It is reached from this machine only. A
    sandbox that is called add, ls or rm is published by its id.

    \b
    cloche publish work 8000
    cloche publish ls
    cloche publish rm work 8000
    """


@command.command("add")
@click.option("--tcp", is_flag=True, help="Print the address for any protocol over TCP instead of the URL.")
@click.option(
    "--any-host/--own-hosts",
    default=None,
    help="At the address, answer HTTP for every host name, or (at first) only for addresses and names below localhost.",
)
@arguments.json_flag
@click.argument("box", metavar="BOX")
@click.argument("port", type=PORT, metavar="PORT")
def add(box: str, port: int, tcp: bool, any_host: bool | None, as_json: bool) -> int:
    """Publish PORT of BOX. Nothing needs to listen there yet."""
    made = execution.found(box).publish(port, any_host=any_host)
    if as_json:
        render.print_json(msgspec.to_builtins(made))
    else:
        render.write(f"{made.address if tcp else made.url}\n")
    return 0


@command.command("ls")
@arguments.json_flag
@click.argument("box", required=False, metavar="[BOX]")
def ls(box: str | None, as_json: bool) -> int:
    """List published ports: of BOX, or of all sandboxes."""
    boxes = [execution.found(box)] if box else _living()
    found = [(sandbox, each) for sandbox in boxes for each in _publications(sandbox)]
    if as_json:
        render.print_json({"publications": [msgspec.to_builtins(each) for _, each in found]})
    else:
        rows = [(sandbox.name or sandbox.id, each.port, each.url, each.address) for sandbox, each in found]
        render.print_table(("SANDBOX", "PORT", "URL", "TCP"), rows, drop=("TCP",))
    return 0


@command.command("rm")
@arguments.json_flag
@click.argument("box", metavar="BOX")
@click.argument("ports", type=PORT, nargs=-1, required=True, metavar="PORT…")
def rm(box: str, ports: Sequence[int], as_json: bool) -> int:
    """End the publication of ports, and the connections to them."""
    sandbox = execution.found(box)
    for port in ports:
        sandbox.unpublish(port)
    if as_json:
        render.print_json({"removed": list(ports)})
    return 0


def _living() -> list[Sandbox]:
    return [Sandbox.from_id(known.id) for known in Sandbox.list(states=sorted(LIVING))]


def _publications(sandbox: Sandbox) -> list[Publication]:
    try:
        return sandbox.publications()
    except NotFoundError:
        return []
