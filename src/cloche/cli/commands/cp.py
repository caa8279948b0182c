"""`cloche cp`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cloche.cli import arguments, copying, execution, interrupts, render
from cloche.cli.failure import say
from cloche.model.errors import InvalidError
from cloche.sdk.values import CopyReport

#: of what was left out; a tree may be full of it
MAX_TOLD = 20


@click.command("cp")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@arguments.json_flag
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
def command(source: str, target: str, quiet: bool, as_json: bool) -> int:
    """Copy files and trees between host and sandbox: one of SRC and DST is BOX:PATH, the other a path of the host.

    As with cp -r: into a directory that exists the source goes under its own name, and DIR/. is what is in DIR. `-` is
    a tar stream on stdin or stdout. Links in a tree are copied as links; modes and times are kept. What a sandbox sends
    is taken for hostile: entries that would leave DST, devices and absolute links are left out and told, and the exit
    status is 1 then.

    \b
    cloche cp job.py work:
    cloche cp work:/home/user/results .
    tar c src | cloche cp - work:/home/user
    """
    inside, outside = _box(source), _box(target)
    if (inside is None) == (outside is None):
        raise InvalidError(
            "one of SRC and DST must be BOX:PATH and the other a path of the host",
            remedy="cloche cp BOX:/home/user/a.txt .  (a host path with a colon: ./a:b)",
        )
    with interrupts.orderly():
        report = _out(*inside, target) if inside else _into(source, *(outside or ("", "")))
    _tell(report.refused)
    if as_json and target != "-":
        render.print_json(_as_json(report))
    return 1 if report.refused else 0


def _tell(refused: Sequence[tuple[str, str]]) -> None:
    for name, why in refused[:MAX_TOLD]:
        say(f"cloche: left out {render.clean(name)}: {render.clean(why)}")
    if len(refused) > MAX_TOLD:
        say(f"cloche: left out {len(refused) - MAX_TOLD} more; --json lists them")


def _box(text: str) -> tuple[str, str] | None:
    """BOX:PATH, unless a slash before the colon says that it is a path of the host."""
    box, colon, path = text.partition(":")
    if not colon or not box or "/" in box or text == "-":
        return None
    return box, path


def _out(box: str, path: str, target: str) -> CopyReport:
    sandbox = execution.found(box)
    return copying.pack_out(sandbox, path) if target == "-" else copying.copy_out(sandbox, path, target)


def _into(source: str, box: str, path: str) -> CopyReport:
    sandbox = execution.found(box)
    return copying.unpack_in(sandbox, path) if source == "-" else copying.copy_in(sandbox, source, path)


def _as_json(report: CopyReport) -> dict[str, object]:
    return {
        "files": report.files,
        "bytes": report.bytes,
        "refused": [{"name": name, "reason": why} for name, why in report.refused],
    }
