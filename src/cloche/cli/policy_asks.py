"""`cloche policy asks` and `answer`: connections that wait for somebody."""

from __future__ import annotations

import click
import msgspec

from cloche.cli import arguments, execution, question, render
from cloche.model.egress import Ask, Verdict


@click.command("asks")
@arguments.json_flag
@click.argument("box", metavar="BOX")
def asks(box: str, as_json: bool) -> int:
    """List connections of BOX that wait for an answer, because a rule says ask. They are refused when none comes.

    \b
    cloche policy asks work
    """
    waiting = execution.found(box).asks()
    if as_json:
        render.print_json({"asks": msgspec.to_builtins(waiting)})
    else:
        render.print_table(("ASK", "WHERE", "REQUEST", "BY", "REFUSED"), [_row(ask) for ask in waiting])
    return 0


@click.command("answer")
@arguments.json_flag
@click.argument("box", metavar="BOX")
@click.argument("ask", metavar="ASK")
@click.argument("verdict", type=click.Choice(["once", "always", "deny"]))
def answer(box: str, ask: str, verdict: Verdict, as_json: bool) -> int:
    """Answer one: let it go on once, it and its like always, or refuse it. `cloche policy asks` lists them.

    \b
    cloche policy answer work ASK once
    cloche policy answer work ASK always
    """
    execution.found(box).answer(ask, verdict)
    if as_json:
        render.print_json({"ask": ask, "verdict": verdict})
    return 0


def _row(ask: Ask) -> tuple[str, ...]:
    return (
        ask.id, question.place(ask), f"{ask.method} {ask.path}".strip(), ask.process, render.ago(ask.expires_at or None)
    )  # fmt: skip
