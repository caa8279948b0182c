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

#: shorter values are not looked for
MIN_VALUE_BYTES = 8


class Redaction:
    """What is looked for on behalf of some secrets."""

    def __init__(self, given: Iterable[GivenSecret]) -> None:
        self._names = {form: one.secret.name for one in given for form in _forms(one.value or "")}
        # longest first: where two begin together, the whole of it goes
        self._forms = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._forms)))
        self._longest = len(self._forms[0]) if self._forms else 0
        self._first_bytes = {form[:1] for form in self._forms}
        self.found: set[str] = set()
        """Names of the secrets that were there so far."""

    def __bool__(self) -> bool:
        return bool(self._forms)

    def whole(self, text: bytes) -> bytes:
        """A text that has no continuation."""
        if not any(form in text for form in self._forms):
            return text
        return self._pattern.sub(self._mask, text)

    def _mask(self, match: re.Match[bytes]) -> bytes:
        name = self._names[match.group()]
        self.found.add(name)
        return mask(name, len(match.group()))

    def begun_at_end(self, text: bytes) -> int:
        """How many bytes at the end may be the beginning of one."""
        tail = text[-(self._longest - 1) :] if self._longest > 1 else b""
        for at in range(len(tail)):
            if tail[at : at + 1] in self._first_bytes and any(form.startswith(tail[at:]) for form in self._forms):
                return len(tail) - at
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
