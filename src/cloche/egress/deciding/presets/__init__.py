"""Named sets of rules for the usual tools: one commented TOML file each, beside this one, to be read by people.

They are what a tool needs to fetch things, and no more. Most of these hosts also take what is sent to them by whoever
has an account there, and `way_out` says so: a preset is a convenience and not a wall."""

from __future__ import annotations

import difflib
import functools
import tomllib
from pathlib import Path

import msgspec

from cloche.model.egress import EgressRule
from cloche.model.egress_checks import PRESET, check_rule
from cloche.model.errors import InvalidError

_HERE = Path(__file__).parent


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`summary`: what it is for. `way_out`: what code could send out through it. `whole`: one of its hosts alone is of
    little use, so that who needs one is told of the preset."""

    name: str
    summary: str
    way_out: str
    rules: list[EgressRule]
    whole: bool = False


@functools.cache
def names() -> tuple[str, ...]:
    """In alphabetical order."""
    return tuple(sorted(path.stem for path in _HERE.glob("*.toml")))


@functools.cache
def load(name: str) -> Preset:
    """Raises InvalidError, which names those that are there."""
    if not PRESET.fullmatch(name) or name not in names():
        raise InvalidError(f"there is no preset {name!r}", field="preset", remedy=_meant(name))
    return read_preset(name, (_HERE / f"{name}.toml").read_text(encoding="utf-8"))


def _meant(name: str) -> str:
    host = f"a host has a dot or a port: {name}.com, {name}:443"
    close = difflib.get_close_matches(name, names(), n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}? (cloche policy presets lists all; {host})"
    return f"one of {', '.join(names())}; {host}"


def read_preset(name: str, text: str) -> Preset:
    """Raises InvalidError, or ValueError (tomllib's, msgspec's) for what is no preset."""
    content = tomllib.loads(text)
    preset = msgspec.convert({"name": name, "rules": content.pop("rule", []), **content}, Preset)
    for index, rule in enumerate(preset.rules):
        check_rule(rule, f"{name}.rule[{index}]")
        if rule.action != "allow" or rule.preset is not None:
            raise InvalidError(f"preset {name}: its rules allow, and name no other preset", field="preset")
    return preset
