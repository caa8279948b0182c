"""Takes the values of secrets out of what a site answers, before the code sees it.

Literal and best effort. Found are, over the borders of pieces too: the value itself, as it stands in JSON, in percent
encoding (either case of its digits), and inside base64 at any alignment (both alphabets). Every find is overwritten in
its own length, so lengths and frames hold. Not found are: values shorter than eight bytes (they would stand anywhere),
anything else that a site does with a value (other case, reversed, hex, encrypted, hashed, in pieces, a range of a body
that begins in the middle of it), and bodies in an encoding that the door cannot read, which are refused instead."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

from cloche.egress.messages import GivenSecret
from cloche.egress.secrecy.placeholders import base64_cores
from cloche.egress.secrecy.sieve import Sieve

#: shorter values are not looked for
MIN_VALUE_BYTES = 8
#: an end of so many bytes that is nowhere in a form begins none that is longer
_SURE_BYTES = 4


class Redaction:
    """What is looked for on behalf of some secrets."""

    def __init__(self, given: Iterable[GivenSecret]) -> None:
        self._names = {form: one.secret.name for one in given for form in _forms(one.value or "")}
        self._sieve = Sieve(self._names)
        self._beginnings = {form[:length] for form in self._names for length in range(1, _SURE_BYTES)}
        self._all = b"\n".join(self._names)
        self.found: set[str] = set()
        """Names of the secrets that were there so far."""

    def __bool__(self) -> bool:
        return bool(self._names)

    def whole(self, text: bytes) -> bytes:
        """A text that has no continuation."""
        found = self._sieve.found(text)
        return self._masked(text, found) if found else text

    def _masked(self, text: bytes, forms: list[bytes]) -> bytes:
        """From left to right; where two begin together, the longer one goes."""
        masked = bytearray(text)
        places = {form: text.find(form) for form in forms}
        while places:
            form = min(places, key=lambda form: (places[form], -len(form)))
            at, end = places[form], places[form] + len(form)
            masked[at:end] = mask(self._names[form], len(form))
            self.found.add(self._names[form])
            behind = {form: place if place >= end else text.find(form, end) for form, place in places.items()}
            places = {form: place for form, place in behind.items() if place >= 0}
        return bytes(masked)

    def begun_at_end(self, text: bytes) -> int:
        """How many bytes at the end may be the beginning of one."""
        if text[-_SURE_BYTES:] in self._all:
            return max((_overlap(text, form) for form in self._names), default=0)
        # no more than a few can be, and most often none
        short = (length for length in range(_SURE_BYTES - 1, 0, -1) if text[-length:] in self._beginnings)
        return next(short, 0)


def _overlap(text: bytes, form: bytes) -> int:
    """The longest end of `text` that is a beginning of `form`, and not all of it."""
    at = text.find(form[:1], max(len(text) - len(form) + 1, 0))
    while at >= 0:
        if form.startswith(text[at:]):
            return len(text) - at
        at = text.find(form[:1], at + 1)
    return 0


class RedactedStream:
    """One body, piece by piece. Bytes wait only while they may be the beginning of a value."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._held = b""

    def piece(self, data: bytes) -> bytes:
        """b"" when all of it has to wait."""
        data = self._redaction.whole(self._held + data if self._held else data)
        waits = self._redaction.begun_at_end(data)
        self._held = data[len(data) - waits :]
        return data[: len(data) - waits] if waits else data

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return held


def mask(name: str, length: int) -> bytes:
    """`[secret NAME]` and stars, or stars alone where there is no room."""
    text = f"[secret {name}]".encode()
    return text.ljust(length, b"*") if len(text) <= length else b"*" * length


def _forms(value: str) -> set[bytes]:
    literal = value.encode()
    if len(literal) < MIN_VALUE_BYTES:
        return set()
    percent = quote(value, safe="")
    lower_percent = re.sub("%..", lambda code: code.group().lower(), percent)
    readable_percent = quote(value, safe="/:@!$&'()*+,;=")
    in_json = [json.dumps(value, ensure_ascii=ascii)[1:-1] for ascii in (False, True)]
    texts = [percent, lower_percent, readable_percent, *in_json, in_json[0].replace("/", "\\/")]
    return {literal, *(text.encode() for text in texts), *base64_cores(literal)}
