"""Holds paths of requests against the globs of rules, so that neither end can be fooled about what a path says.

A server may decode, shorten or split a path in ways of its own. A path that could be read in two ways matches no glob
of a rule that allows (but one that is the same text), and every glob of a rule that denies or asks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import unquote

MAX_LENGTH = 8192

#: no dot segments, no empty segments, no `;` parameters, no backslash; escapes are looked at below
_ORDINARY = re.compile(r"/|(?:/(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-Fa-f]{2})+)+/?")
#: what would cut a path in another place once it is decoded: / \ . % ; ? # and control characters
_CUTTING = re.compile(r"%(?:2[fFeE53]|5[cC]|3[bBfF]|[01][0-9A-Fa-f]|7[fF])")


class PathGlob:
    """`*` stands for a part of one segment (alone: for a segment that is not empty), `**` for any number of segments
    (at the end: at least one, which may be empty)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matches_all = text == "/**"
        segments = (plain_path(text) or text).split("/")[1:]
        last = ["**?"] if segments[-1] == "**" else []
        self._segments = segments[:-1] + last + ["**"] if last else segments
        self._loose = [segment.casefold() for segment in self._segments]

    def matches(self, plain: str) -> bool:
        """`plain`: what `plain_path` gave."""
        return _glob(self._segments, plain.split("/")[1:])

    def resembles(self, plain: str) -> bool:
        """Whether a server could take it for a path that matches: for many neither case nor a slash at the end makes a
        difference. For rules that deny or ask."""
        folded = plain.casefold().removesuffix("/")
        return any(_glob(self._loose, path.split("/")[1:]) for path in (folded, folded + "/") if path)


def without_query(raw: str) -> str:
    return raw.partition("?")[0] or "/"


def plain_path(raw: str) -> str | None:
    """The one way to read it, decoded; None when there is more than one. `raw` has no query."""
    if len(raw) > MAX_LENGTH or not _ORDINARY.fullmatch(raw):
        return None
    if "%" not in raw:
        return raw
    if _CUTTING.search(raw):
        return None
    try:
        decoded = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return None
    return decoded if decoded.isascii() or unicodedata.is_normalized("NFKC", decoded) else None


def _glob(pattern: Sequence[str], segments: Sequence[str]) -> bool:
    """With one place to come back to, so that no path makes it slow."""
    at, star, tried = 0, -1, 0
    place = 0
    while place < len(segments):
        if at < len(pattern) and pattern[at] == "**":
            star, tried, at = at, place, at + 1
        elif at < len(pattern) and _segment_matches(pattern[at], segments[place]):
            at, place = at + 1, place + 1
        elif star >= 0:
            tried += 1
            at, place = star + 1, tried
        else:
            return False
    return all(segment == "**" for segment in pattern[at:])


def _segment_matches(pattern: str, segment: str) -> bool:
    if pattern == "**?":
        return True
    if "*" not in pattern:
        return pattern == segment
    if pattern == "*":
        return segment != ""
    first, *middle, last = pattern.split("*")
    if len(segment) < len(first) + len(last) or not (segment.startswith(first) and segment.endswith(last)):
        return False
    at, end = len(first), len(segment) - len(last)
    for part in middle:
        found = segment.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
