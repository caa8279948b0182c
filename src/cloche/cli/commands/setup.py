"""`cloche setup`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import click
import msgspec

from cloche.cli import arguments, interrupts, progress, render
from cloche.cli.failure import say
from cloche.sdk._sync.node import Node
from cloche.sdk.setups import EngineSetup, SetupProgress

#: the node's environment has no proxies in it: they can hold passwords
_PROXIES = {"proxy_http": "http_proxy", "proxy_https": "https_proxy", "proxy_no": "no_proxy"}


@click.command("setup")
@click.option("--kernel", type=click.Path(), help="For vm: this vmlinux or bzImage instead of a package.")
@click.option("--modules", type=click.Path(), help="For vm: its /lib/modules/RELEASE, unless all is built in.")
@click.option("--mirror", metavar="URL", help="For vm: a mirror of Debian other than this machine's.")
@click.option("--suite", metavar="NAME", help="For vm: the suite there, such as trixie.")
@click.option("--keyring", type=click.Path(), help="For vm: the keys that may have signed the mirror.")
@click.option("--update", is_flag=True, help="Look for something newer than what is there.")
@click.option("--verify", is_flag=True, help="Read what is there whole, and mend it.")
@arguments.json_flag
@click.argument("engine", required=False)
def command(engine: str | None, as_json: bool, **given: str | bool | None) -> int:
    """Fetch what ENGINE needs, such as the kernel for virtual machines. Without ENGINE: list what can be set up.

    What is there already is kept, and a set-up that was interrupted goes on where it was. It needs no root.

    \b
    cloche setup vm
    """
    if engine is None:
        _list(Node().engine_setups(), as_json)
        return 0
    with interrupts.orderly():
        steps = _follow(Node().setup(engine, **_options(given)))
    if as_json:
        render.print_json({"engine": engine, "done": True, "steps": [msgspec.to_builtins(step) for step in steps]})
    else:
        _tell(engine, steps)
    return 0


def _options(given: Mapping[str, str | bool | None]) -> dict[str, str]:
    paths = {name: os.path.abspath(str(given[name])) for name in ("kernel", "modules", "keyring") if given[name]}
    texts = {name: str(given[name]) for name in ("mirror", "suite") if given[name]}
    flags = {name: "1" for name in ("update", "verify") if given[name]}
    found = {name: os.environ.get(variable) or os.environ.get(variable.upper(), "")
             for name, variable in _PROXIES.items()}  # fmt: skip
    return {**paths, **texts, **flags, **{name: value for name, value in found.items() if value}}


def _follow(said: Iterable[SetupProgress]) -> list[SetupProgress]:
    """Show how far it is → of every step its last word, in their order."""
    last: dict[tuple[str, str], SetupProgress] = {}
    now = ["starting"]
    with progress.shown(lambda: now[0]):
        for step in said:
            last.pop((step.step, step.summary), None)
            last[step.step, step.summary] = step
            now[0] = _line(step)
    return list(last.values())


def _line(step: SetupProgress) -> str:
    """One step for people: "package: linux-image-… 12.0 MiB of 25.5 MiB"."""
    if not step.total:
        return f"{step.step}: {step.summary}"
    if step.unit == "bytes":
        return f"{step.step}: {step.summary} {progress.amount(step.done)} of {progress.amount(step.total)}"
    return f"{step.step}: {step.summary} {step.done} of {step.total}"


def _tell(engine: str, steps: list[SetupProgress]) -> None:
    for step in steps:
        say(render.clean(_line(step)))
    render.write(f"engine {render.clean(engine)} is set up\n")


def _list(found: list[EngineSetup], as_json: bool) -> None:
    if as_json:
        render.print_json({"engines": msgspec.to_builtins(found)})
        return
    rows = [(each.name, "ready" if each.usable else "; ".join(lack.summary for lack in each.missing)) for each in found]
    render.print_table(("ENGINE", "STATE"), rows)
