"""`cloche code`: cells in an interpreter that keeps its state."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from cloche.cli import arguments, cellview, execution, interrupts, render, temporary
from cloche.cli.cellview import Shown
from cloche.cli.failure import say
from cloche.cli.interactive import Session
from cloche.model.code import LANGUAGES, Language
from cloche.model.errors import InvalidError
from cloche.sdk._sync.sandbox import Sandbox

_BY_SUFFIX: dict[str, Language] = {".py": "python", ".js": "javascript", ".mjs": "javascript", ".sh": "bash"}


@click.command("code")
@click.option("-l", "--language", type=click.Choice(LANGUAGES), help="By the name of FILE, or python.")
@click.option("-c", "--code", metavar="CODE", help="The code itself.")
@click.option("--timeout", type=arguments.DURATION, help="Interrupt the code after, such as 30s (status 124).")
@click.option("--context", metavar="ID", help="Run in this context (--json shows its id), not the default one.")
@click.option("--save-images", metavar="DIR", type=click.Path(path_type=Path), help="Keep the pictures it shows here.")
@click.option("--template", metavar="NAME", help="Without BOX: begin from this template.")
@click.option(
    "--image", metavar="IMAGE", default="host", show_default=True, help="Without BOX: what the new sandbox is made of."
)
@click.option("--memory", type=arguments.SIZE, help="Without BOX: its memory; 512m when not given.")
@arguments.network_flags
@click.option("--keep", is_flag=True, help="Without BOX: leave the sandbox running afterwards.")
@arguments.json_flag
@click.argument("box", required=False)
@click.argument("file", required=False)
def command(
    box: str | None, file: str | None, language: Language | None, code: str | None, as_json: bool, **given: Any
) -> int:
    """Run code in an interpreter that keeps its state, or type it at the terminal.

    The code is CODE, a FILE, or stdin for `-` and where stdin is no terminal. Variables stay from one call to the next
    in the same BOX; without BOX a new sandbox is made and removed afterwards. A single argument that is `-`, has a
    slash or ends in .py, .js, .mjs or .sh is FILE. What the code prints goes to stdout and stderr, its last value to
    stdout. Exits with 0, 1 when the code raised, 124 when it timed out.

    \b
    cloche code -c '6 * 7'
    cloche code work analysis.py
    cloche code work
    """
    box, file = _told_apart(box, file)
    if box is not None and _describes(given):
        raise InvalidError(
            "--template, --image, --memory, --net, --secret and --keep are of a new sandbox, and BOX is there already",
            remedy="leave BOX out, or the option; cloche policy changes the network of a sandbox that is there",
        )
    if box is None and given["context"] is not None:
        raise InvalidError("--context needs BOX: a new sandbox has no contexts", remedy="cloche code --context ID BOX")
    code = _code(code, file)
    chosen = language or _BY_SUFFIX.get(Path(file or "").suffix, "python")
    if code is None and as_json:
        raise InvalidError("--json needs code", remedy="cloche code --json -c 'print(1)'")
    return _in(
        box, given, lambda session: _cell(session, code, as_json) if code is not None else _type(session), chosen
    )


def _in(box: str | None, given: dict[str, Any], use: Any, language: Language) -> int:
    with interrupts.watched() as watch:

        def session(sandbox: Sandbox) -> int:
            shown = Shown(given["save_images"])
            return int(use(Session(sandbox, watch, shown, language, given["context"], given["timeout"])))

        if box is not None:
            return session(watch.interruptible(lambda: execution.found(box)))
        return temporary.used(_described(given), watch, session, keep=given["keep"])


def _describes(given: dict[str, Any]) -> bool:
    return given["image"] != "host" or any(given[name] for name in ("template", "memory", "keep", "net", "secrets"))


def _described(given: dict[str, Any]) -> dict[str, Any]:
    """The new sandbox; beside a template only what was said, since that wins over it."""
    options = {"image": given["image"], "memory": given["memory"]}
    network = arguments.network(given["net"], given["secrets"])
    if given["template"] is None:
        return options | network
    plain = {"image": "host", "memory": None}
    kept = {key: value for key, value in options.items() if value != plain[key]}
    return {"template": given["template"]} | kept | network


def _cell(session: Session, code: str, as_json: bool) -> int:
    stream = session.stream(code)
    if as_json:
        execution.ask_meanwhile(session.sandbox, time.time(), stdin=False)
    done = session.watch.interruptible(stream.result) if as_json else session.cell(stream)
    if as_json:
        render.print_json(cellview.as_json(session.sandbox.id, done))
    return cellview.status_of(done)


def _type(session: Session) -> int:
    name = render.clean(session.sandbox.name or session.sandbox.id)
    say(f"cloche: {session.language} in {name}; :help helps, Ctrl-D leaves")
    return session.run()


def _told_apart(box: str | None, file: str | None) -> tuple[str | None, str | None]:
    if box is not None and file is None and (box == "-" or "/" in box or Path(box).suffix in _BY_SUFFIX):
        return None, box
    return box, file


def _code(code: str | None, file: str | None) -> str | None:
    """The code, or None when it is to be typed."""
    if code is not None and file is not None:
        raise InvalidError("-c and FILE exclude each other", remedy="leave one of them out")
    if code is not None:
        return code
    if file is None and cellview.has_terminal():
        return None
    return cellview.read_code(file or "-")
