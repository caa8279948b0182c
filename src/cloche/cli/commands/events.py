"""`cloche events`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import click
import msgspec

from cloche.cli import arguments, interrupts, render
from cloche.cli.cells import cut
from cloche.model.events import Event
from cloche.sdk._sync.node import Node
from cloche.sdk._sync.sandbox import Sandbox

MAX_VALUE = 500
#: behind these, what is known of the event needs a line of its own
WIDE = 60


@click.command("events")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@click.option("--since", type=arguments.DURATION, help="Only what happened so long ago or later, such as 10m.")
@click.option("--after", default="", metavar="EVENT", help="Go on behind this event.")
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Only of this kind, such as sandbox.created or created."
)
@click.option("-n", "--tail", type=click.IntRange(0), metavar="N", help="Of what has happened only the newest so many.")
@arguments.json_flag
@click.argument("box", required=False)
def command(
    follow: bool, since: float | None, after: str, kinds: tuple[str, ...], tail: int | None, as_json: bool,
    box: str | None,
) -> int:  # fmt: skip
    """Show what happened to sandboxes, oldest first.

    To all of them, or to BOX, which may be the id of a removed one. With --json one object a line; its `id` is what
    --after takes.

    \b
    cloche events --since 10m
    cloche events -f --kind failed
    """
    asked = Node().events(
        follow=follow, after=after, sandbox=box, kinds=[_kind(kind) for kind in kinds], limit=tail,
        since=None if since is None else time.time() - since,
    )  # fmt: skip
    with interrupts.orderly():
        try:
            _show(asked, as_json)
        except KeyboardInterrupt:
            if not follow:
                raise
    return 0


def _kind(given: str) -> str:
    return given if "." in given else f"sandbox.{given}"


def _show(events: Iterable[Event], as_json: bool) -> None:
    names = {} if as_json else {known.id: known.name for known in Sandbox.list() if known.name}
    for event in events:
        if as_json:
            render.write(json.dumps(msgspec.to_builtins(event)) + "\n")
        else:
            render.write(line(event, names, render.columns()) + "\n")


def line(event: Event, names: dict[str, str], columns: int | None) -> str:
    """One event for people. `names`: id → name of the sandboxes that were seen being made; filled here."""
    if event.kind == "sandbox.created" and event.data.get("name"):
        names[event.sandbox_id] = str(event.data["name"])
    who = names.get(event.sandbox_id) or event.sandbox_id or "-"
    what = event.kind.removeprefix("sandbox.")
    details = " ".join(f"{key}={_value(value)}" for key, value in sorted(event.data.items()) if key != "name")
    if columns is not None and columns < WIDE:
        text = f"{render.clock(event.at)[11:]} {what} {who} {details}"
        return cut(render.clean(text).rstrip(), columns)
    shown = event.sandbox_id if who == event.sandbox_id else f"{event.sandbox_id} {who}"
    text = f"{render.clock(event.at)}  {render.clean(what):<9} {render.clean(shown)}  {render.clean(details)}".rstrip()
    return text if columns is None else cut(text, columns)


def _value(value: object) -> str:
    return (value if isinstance(value, str) else json.dumps(value))[:MAX_VALUE]
