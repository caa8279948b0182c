"""Flags that several commands have, and the values that they become."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from cloche.model.errors import InvalidError
from cloche.model.limits import parse_duration_seconds, parse_size_mib

F = TypeVar("F", bound=Callable[..., Any])

#: options behind the first argument belong to the command that is run
COMMAND_CONTEXT = {"ignore_unknown_options": False, "allow_interspersed_args": False}
json_flag = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


class Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration_seconds(str(value))
        except InvalidError as error:
            self.fail(error.message, param, ctx)


class Size(click.ParamType[int]):
    """A size, as MiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size_mib(str(value))
        except InvalidError as error:
            self.fail(error.message, param, ctx)


DURATION = Duration()
SIZE = Size()

_NETWORK = [
    click.option(
        "--net",
        metavar="POLICY",
        help="What it may reach, and how much, such as pypi,api.example.com,out=10m; nothing when not given. allow: "
        "everything but this machine and its network. @FILE: a policy in YAML or JSON. More: cloche policy --help.",
    ),
    click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="NAME[=FROM]@HOST",
        help="A value that is used towards HOST and never seen inside: variable NAME of this shell, or FROM env:NAME, "
        "file:PATH, keyring:SERVICE/USER, cmd:COMMAND.",
    ),
]
_SANDBOX = [
    click.option(
        "--image",
        metavar="IMAGE",
        default="host",
        show_default=True,
        help="The root: `host` is this machine's /usr, and the only one yet.",
    ),
    click.option(
        "--engine",
        metavar="NAME",
        default="auto",
        show_default=True,
        help="Which engine; auto takes the strongest that works here.",
    ),
    click.option(
        "--isolation",
        type=click.Choice(["vm", "gvisor", "namespace", "container"]),
        help="The level that must be met, or nothing is made.",
    ),
    click.option("--memory", type=SIZE, help="Memory, such as 2g; 512m when not given."),
    click.option("--cpus", type=float, metavar="N", help="CPUs, such as 0.5; 1 when not given."),
    click.option("--disk", type=SIZE, help="How much may be written; 1g when not given. Counts as memory."),
    click.option("--pids", type=int, metavar="N", help="How many processes and threads; 256 when not given."),
    *_NETWORK,
    click.option("-e", "--env", multiple=True, metavar="K[=V]", help="Environment; without a value the host's."),
    click.option(
        "-v", "--volume", multiple=True, metavar="SRC:DST[:ro]", help="Show a host path inside; writable without :ro."
    ),
    click.option("-l", "--label", multiple=True, metavar="K[=V]", help="A label to find it by."),
    click.option("--host-path", multiple=True, metavar="DIR", help="Show a host directory read-only at the same path."),
    click.option("--hide", multiple=True, metavar="PATH", help="Hide a path that the host image would show."),
    click.option("--ttl", type=DURATION, help="Expire, and be removed, after so long, such as 1h."),
    click.option(
        "--idle-timeout", type=DURATION, help="Expire when unused for so long; a process that runs counts as use."
    ),
]


#: of one sandbox, and not of all that are made from a template
_OF_ONE = [
    click.option("--template", metavar="NAME", help="Begin from this template; what is given here wins."),
    click.option("--snapshot", metavar="SNAPSHOT", help="Go on from this snapshot, with its engine, image and limits."),
    click.option("--name", metavar="NAME", help="A name, unique among the living."),
]
_SAME = ("image", "engine", "isolation", "memory", "cpus", "disk", "pids", "name")


def sandbox_flags(function: F) -> F:
    """The flags of `run`, `create` and `shell` that describe the sandbox."""
    for option in reversed([*_OF_ONE, *_SANDBOX]):
        function = option(function)
    return function


def template_flags(function: F) -> F:
    """The flags that describe all sandboxes of a template."""
    for option in reversed(_SANDBOX):
        function = option(function)
    return function


def network_flags(function: F) -> F:
    """--net and --secret alone."""
    for option in reversed(_NETWORK):
        function = option(function)
    return function


def sandbox_options(given: dict[str, Any]) -> dict[str, Any]:
    """Take those flags out of `given` → arguments of `Sandbox.create`. Raises InvalidError, NotFoundError."""
    net = given.pop("net")
    same = {name: given.pop(name, None) for name in _SAME}
    options = {
        **same,
        "env": environment(given.pop("env")),
        "labels": pairs(given.pop("label")),
        "mounts": given.pop("volume"),
        "host_paths": given.pop("host_path"),
        "hide": given.pop("hide"),
        "ttl_seconds": given.pop("ttl"),
        "idle_timeout_seconds": given.pop("idle_timeout"),
        **network(net, given.pop("secrets")),
    }
    begun = {name: value for name in ("template", "snapshot") if (value := given.pop(name, None)) is not None}
    return {**_without_defaults(options), **begun} if begun else options


def network(net: str | None, secrets: Sequence[str]) -> dict[str, Any]:
    """--net and --secret as arguments of `Sandbox.create`; what was not given is left out."""
    if net is not None:
        from cloche.cli import policies

        return {"net": policies.read(net), **network(None, secrets)}
    return {"secrets": list(secrets)} if secrets else {}


def _without_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """What counts against a template or a snapshot is only what was given on the command line."""
    plain = {"image": "host", "engine": "auto", "labels": {}}
    kept = {name: value for name, value in options.items() if value is not None and value != plain.get(name, ())}
    return {"name": None, "labels": {}, **kept}


def environment(given: Sequence[str]) -> dict[str, str]:
    """K=V as it is; K alone takes the host's value and is left out when the host has none."""
    named = {entry.partition("=")[0]: entry for entry in given}
    return {
        name: entry.partition("=")[2] if "=" in entry else os.environ[name]
        for name, entry in named.items()
        if "=" in entry or name in os.environ
    }


def pairs(given: Sequence[str]) -> dict[str, str]:
    """Labels to set: a missing value is empty."""
    return {key: value for key, _, value in (entry.partition("=") for entry in given)}


def filters(given: Sequence[str]) -> dict[str, str | None]:
    """Labels to look for: a missing value is any."""
    return {entry.partition("=")[0]: entry.partition("=")[2] if "=" in entry else None for entry in given}
