"""Writes the smallest policy that would have allowed what a sandbox tried."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cloche.model.egress import AuditLine, EgressPolicy


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """`port` 0: only its name was asked for."""

    host: str
    port: int = 0
    protocol: str = ""
    count: int = 1


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """`words`: for `--net`, comma separated. `tried`: what they are for, the most frequent first."""

    words: list[str]
    policy: EgressPolicy
    tried: list[Tried]


def suggest(lines: Iterable[AuditLine], attempts: Iterable[Tried] = ()) -> Suggestion:
    """`attempts`: what a closed sandbox's guest remembers; it may say anything."""
    raise NotImplementedError
