"""`cloche cp`."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator

import click

from cloche.cli import arguments, attach, interrupts, render
from cloche.cli.failure import say
from cloche.model.errors import InvalidError, NotFoundError
from cloche.sdk._sync.sandbox import Sandbox
from cloche.sdk.values import CopyReport


@click.command("cp")
@arguments.json_flag
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
def command(source: str, target: str, as_json: bool) -> int:
    """Copy files and trees between host and sandbox: one of SRC and DST is BOX:PATH, the other a path of the host.

    Into a directory that exists, the source goes under its own name. `-` is a tar stream on stdin or stdout. Links are
    copied as links. What a sandbox sends is taken for hostile: entries that would leave DST, devices and absolute
    links are left out and told, and the exit status is 1 then.
    """
    inside, outside = _box(source), _box(target)
    if (inside is None) == (outside is None):
        raise InvalidError(
            "one of SRC and DST must be BOX:PATH and the other a path of the host",
            remedy="cloche cp BOX:/home/user/a.txt .  (a host path with a colon: ./a:b)",
        )
    with interrupts.orderly():
        if inside is not None:
            report = _out(Sandbox.from_id(inside[0]), inside[1], target)
        else:
            assert outside is not None
            report = _into(Sandbox.from_id(outside[0]), source, outside[1])
    for name, why in report.refused:
        say(f"cloche: left out {render.clean(name)}: {render.clean(why)}")
    if as_json:
        render.print_json(
            {
                "files": report.files,
                "bytes": report.bytes,
                "refused": [{"name": name, "reason": why} for name, why in report.refused],
            }
        )
    return 1 if report.refused else 0


def _box(text: str) -> tuple[str, str] | None:
    """BOX:PATH, unless a slash before the colon says that it is a path of the host."""
    box, colon, path = text.partition(":")
    if not colon or not box or "/" in box or text == "-":
        return None
    return box, path or "."


def _out(sandbox: Sandbox, path: str, target: str) -> CopyReport:
    if target == "-":
        for chunk in sandbox.files.get_tar(path):
            attach.write_all(1, chunk)
        return CopyReport()
    if os.path.isdir(target):
        name = posixpath.basename(sandbox.files.stat(path, follow=True).path.rstrip("/"))
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise InvalidError(f"{path} has no name to go by in {target}", remedy="name the target")
        target = os.path.join(target, name)
    return sandbox.files.download(path, target, skip_refused=True)


def _into(sandbox: Sandbox, source: str, path: str) -> CopyReport:
    if source == "-":
        made = sandbox.files.put_tar(path, _stdin())
        return CopyReport(files=made.files, bytes=made.bytes)
    if not os.path.lexists(source):
        raise NotFoundError(f"no such file on the host: {source}")
    name = os.path.basename(os.path.abspath(source))
    return sandbox.files.upload(source, posixpath.join(path, name) if _is_directory(sandbox, path) else path)


def _is_directory(sandbox: Sandbox, path: str) -> bool:
    if path.endswith("/"):
        return True
    try:
        return sandbox.files.stat(path, follow=True).type == "directory"
    except NotFoundError:
        return False


def _stdin() -> Iterator[bytes]:
    return iter(lambda: os.read(0, attach.PIECE_BYTES), b"")
