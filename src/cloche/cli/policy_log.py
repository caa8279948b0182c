"""`cloche policy log`: what became of connections and requests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import click
import msgspec

from cloche.cli import arguments, failure, interrupts, policyview, render
from cloche.model.egress import AuditLine
from cloche.model.errors import ClocheError
from cloche.sdk._sync.node import Node
from cloche.sdk._sync.sandbox import Sandbox

LOOK_SECONDS = 1.0
#: more than so many between two looks are told as lost
MAX_LINES = 10_000
_VERDICTS = ("allowed", "denied", "failed", "limit", "revoked")


@click.command("log")
@click.option("--denied", is_flag=True, help="Only what was refused.")
@click.option("--verdict", "verdicts", multiple=True, type=click.Choice(_VERDICTS), help="Only with this verdict.")
@click.option("--since", type=arguments.DURATION, help="Only what began so long ago or later, such as 1h.")
@click.option("--host", metavar="HOST", help="Only to this host.")
@click.option("-n", "--tail", type=click.IntRange(1, MAX_LINES), metavar="N", default=1000, show_default=True,
              help="Only the newest so many.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@arguments.json_flag
@click.argument("box", required=False, metavar="[BOX]")
def log(
    box: str | None, denied: bool, verdicts: Sequence[str], since: float | None, host: str | None, tail: int,
    follow: bool, as_json: bool,
) -> int:  # fmt: skip
    """Show what became of connections and requests, oldest first; of all sandboxes, or of BOX.

    A line is written when a connection is over. With --json one object a line.

    \b
    cloche policy log work
    cloche policy log --denied --since 1h
    cloche policy log -f --host api.example.com work
    """
    wanted = [*verdicts, *(["denied"] if denied else [])]
    names = None if as_json or box else {known.id: known.name for known in Sandbox.list() if known.name}
    told = 0
    begin = None if since is None else time.time() - since
    with interrupts.orderly():
        try:
            for line in _read(Look(box, wanted, host), begin, tail, follow):
                _print(line, names, as_json)
                told += 1
        except KeyboardInterrupt:
            if not follow:
                raise
    if box and not told and _is_closed(box):
        # whatever it tries, nothing of it comes to the door
        failure.say(f"  a closed sandbox has none; what it has tried: cloche policy suggest {render.clean(box)}")
    return 0


def _is_closed(box: str) -> bool:
    with suppress(ClocheError):
        return Sandbox.from_id(box).known.spec.egress is None
    return False


class Look:
    """One question to the node, asked again and again."""

    def __init__(self, box: str | None, verdicts: Sequence[str], host: str | None) -> None:
        self._box, self._verdicts, self._host = box, verdicts, host
        self._dropped = 0

    def lines(self, since: float | None, limit: int) -> list[AuditLine]:
        page = Node().egress_log(sandbox=self._box, since=since, verdicts=self._verdicts, host=self._host, limit=limit)
        if page.dropped > self._dropped:
            failure.say(f"cloche: {page.dropped - self._dropped} lines could not be written and are lost")
        self._dropped = page.dropped
        return page.lines


def _read(look: Look, since: float | None, limit: int, follow: bool) -> Iterator[AuditLine]:
    # before the first lines are shown: what is written while they are has to come with the next look
    seen = _keys(look.lines(None, MAX_LINES)) if follow else set()
    first = look.lines(since, limit)
    yield from first
    if not first and not follow:
        failure.say("cloche: no lines: nothing was tried, or nothing that you ask for")
    seen |= _keys(first)
    while follow:
        time.sleep(LOOK_SECONDS)
        now = look.lines(None, MAX_LINES)
        yield from (line for line in now if _key(line) not in seen)
        seen = _keys(now)


def _keys(lines: Sequence[AuditLine]) -> set[bytes]:
    return {_key(line) for line in lines}


def _key(line: AuditLine) -> bytes:
    """A line is known by all that it says: it has no number."""
    return msgspec.json.encode(line)


def _print(line: AuditLine, names: dict[str, str] | None, as_json: bool) -> None:
    if as_json:
        render.write(json.dumps(msgspec.to_builtins(line)) + "\n")
    else:
        render.write(policyview.log_line(line, names, render.columns()) + "\n")
