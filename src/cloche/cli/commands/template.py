"""`cloche template`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import click
import msgspec

from cloche.cli import arguments, render
from cloche.model.code import Language
from cloche.model.errors import InvalidError, NotFoundError
from cloche.sdk._sync.node import Node
from cloche.sdk.values import TemplateInfo

_HEADINGS = ("NAME", "IMAGE", "ENGINE", "WARM", "CONTEXTS", "UPDATED")


@click.group("template")
def command() -> None:
    """Name what is made often, and keep some of it warm.

    \b
    cloche template set small --memory 128m --warm 2
    cloche run --template small -- true
    """


@command.command("set")
@arguments.template_flags
@click.option("-w", "--workdir", metavar="DIR", help="Where its commands start.")
@click.option("-u", "--user", metavar="USER", help="As whom its commands run.")
@click.option(
    "--warm", type=int, metavar="N", default=0, show_default=True, help="How many of its sandboxes wait ready."
)
@click.option(
    "--code", "codes", multiple=True, metavar="LANG=CODE", help="Code that has run in its context of this language."
)
@click.option("--code-file", "code_files", multiple=True, metavar="LANG=FILE", help="The same, from a file.")
@arguments.json_flag
@click.argument("template", metavar="NAME")
def set_(template: str, warm: int, codes: Sequence[str], code_files: Sequence[str], as_json: bool, **given: Any) -> int:
    """Write or replace a template. What is left out is as in `cloche create`.

    \b
    cloche template set small --memory 128m -e GREETING=hello
    cloche template set data --warm 2 --code 'python=import json'
    """
    placed = {name: value for name in ("workdir", "user") if (value := given.pop(name)) is not None}
    contexts = {**_codes(codes), **{language: _read(path) for language, path in _codes(code_files).items()}}
    made = Node().templates.set(template, warm=warm, contexts=contexts, **arguments.sandbox_options(given), **placed)
    _show(made, as_json)
    return 0


@command.command("ls")
@arguments.json_flag
def ls(as_json: bool) -> int:
    """List templates."""
    found = Node().templates.list()
    if as_json:
        render.print_json({"templates": msgspec.to_builtins(found)})
    else:
        render.print_table(_HEADINGS, [_row(template) for template in found])
    return 0


@command.command("inspect")
@arguments.json_flag
@click.argument("template", metavar="NAME")
def inspect(template: str, as_json: bool) -> int:
    """Show a template, as JSON."""
    render.print_json(msgspec.to_builtins(Node().templates.get(template)))
    return 0


@command.command("rm")
@arguments.json_flag
@click.argument("templates", nargs=-1, required=True, metavar="NAME…")
def rm(templates: tuple[str, ...], as_json: bool) -> int:
    """Forget templates; sandboxes that were made from them go on."""
    for name in templates:
        Node().templates.remove(name)
    if as_json:
        render.print_json({"removed": list(templates)})
    return 0


def _show(template: TemplateInfo, as_json: bool) -> None:
    if as_json:
        render.print_json(msgspec.to_builtins(template))
    else:
        render.write(f"{template.name}\n")


def _row(template: TemplateInfo) -> Sequence[object]:
    contexts = ",".join(context.language for context in template.warm.contexts)
    spec = template.spec
    return (template.name, spec.image, spec.engine, template.warm.size, contexts, render.ago(template.updated_at))


def _codes(given: Sequence[str]) -> dict[Language, str]:
    return {_language(language): rest for language, _, rest in (entry.partition("=") for entry in given)}


def _language(text: str) -> Language:
    if text not in get_args(Language):
        raise InvalidError(f"{text!r} is no language (there are {', '.join(get_args(Language))})", field="code",
                           remedy="--code 'python=import json'")  # fmt: skip
    return cast(Language, text)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
