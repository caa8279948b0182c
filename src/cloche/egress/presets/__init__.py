"""Named sets of rules for the usual tools: one commented TOML file each, beside this one, to be read by people."""

from __future__ import annotations

import functools

import msgspec

from cloche.model.egress import EgressRule


class Preset(msgspec.Struct, frozen=True, kw_only=True):
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
    raise NotImplementedError


def load(name: str) -> Preset:
    """Raises InvalidError, which names those that are there."""
    raise NotImplementedError
