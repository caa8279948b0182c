"""Placeholders: what code holds instead of a secret's value, and how one is recognised where it should not be.

A placeholder is worth nothing to anybody, so finding them all is no matter of safety: that a value goes only where it
may is what `secrets.py` does, which replaces exact placeholders in named places and nothing else. Finding one elsewhere
tells that code (or whoever talks it into that) is about to send a secret away, and stops the request. Seen are: any
case, up to three layers of percent encoding, and base64 at any alignment, in heads; any case in bodies. Not seen are
other encodings, compressed or encrypted bodies, and placeholders in pieces."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from cloche.egress.messages import GivenSecret

_PREFIX = b"cloche-secret-"
_WHOLE = re.compile(rb"cloche-secret-[0-9a-f]{32}")
#: the longest beginning of a placeholder that can stand at the end of a piece
_MAX_BEGUN = len(_PREFIX) + 31
_BEGUN_DIGITS = re.compile(rb"[0-9a-f]{0,31}")
_LAYERS = 3


def new_placeholder() -> str:
    """`cloche-secret-` and 32 hex digits: what the code has instead of the value."""
    return _PREFIX.decode() + os.urandom(16).hex()


class Placeholders:
    """Those of one sandbox."""

    def __init__(self, given: Iterable[GivenSecret]) -> None:
        self.by_text = {one.placeholder.lower().encode(): one for one in given}
        self._encoded = {core: one for text, one in self.by_text.items() for core in base64_cores(text)}

    def __bool__(self) -> bool:
        return bool(self.by_text)

    def in_head(self, text: bytes) -> GivenSecret | None:
        """The first that is there, in any form that is recognised."""
        for _ in range(_LAYERS + 1):
            if found := self._plain(text) or self._in_base64(text):
                return found
            if b"%" not in text:
                return None
            text = unquote_to_bytes(text)
        return None

    def _plain(self, text: bytes) -> GivenSecret | None:
        lower = text.lower()
        if _PREFIX not in lower:
            return None
        known = (self.by_text.get(match.group()) for match in _WHOLE.finditer(lower))
        return next((one for one in known if one), None)

    def _in_base64(self, text: bytes) -> GivenSecret | None:
        return next((one for core, one in self._encoded.items() if core in text), None)

    def occurrences(self, lower: bytes) -> Iterable[tuple[int, GivenSecret]]:
        """Where they stand in a text in lower case, from its beginning on."""
        if _PREFIX not in lower:
            return
        for match in _WHOLE.finditer(lower):
            if one := self.by_text.get(match.group()):
                yield match.start(), one


def begun_at_end(lower: bytes) -> int:
    """How many bytes at the end of a text in lower case may be the beginning of a placeholder."""
    tail = lower[-_MAX_BEGUN:]
    at = tail.find(b"c")
    while at >= 0:
        if _begins(tail[at:]):
            return len(tail) - at
        at = tail.find(b"c", at + 1)
    return 0


def _begins(text: bytes) -> bool:
    if len(text) <= len(_PREFIX):
        return _PREFIX.startswith(text)
    return text.startswith(_PREFIX) and _BEGUN_DIGITS.fullmatch(text, len(_PREFIX)) is not None


def base64_cores(text: bytes) -> set[bytes]:
    """What base64 of anything that contains `text` contains, whatever stands before and behind: three alignments, in
    the usual alphabet and the one for URLs."""
    cores = set()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + text)
        # a digit counts when all of its six bits are of the text
        first, beyond = -(-before * 8 // 6), (before + len(text)) * 8 // 6
        core = encoded[first:beyond]
        cores |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
    return cores
