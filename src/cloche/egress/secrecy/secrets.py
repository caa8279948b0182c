"""Puts the values of secrets where the code has placeholders, for the right site and in the right places only.

A value goes into a request only when all of this holds: the site is one of the secret's hosts, the door has verified
its certificate (scheme "https"), and the exact placeholder stands in a place that the secret names. A placeholder that
stands anywhere else ends the request before a byte of it leaves. What this cannot prevent: code may use a secret for
whatever the site lets its owner do, and a site that gives back what it was sent in some other form than those of
`redaction.py` gives the value to the code."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from cloche.egress.hooks import Site
from cloche.egress.http.heads import Headers, RequestHead
from cloche.egress.messages import GivenSecret
from cloche.egress.secrecy.placeholders import Placeholders, begun_at_end, new_placeholder

__all__ = ["BodyFilter", "Injected", "SecretRefusedError", "SiteSecrets", "new_placeholder"]

#: never changed: they say where the request goes and where it ends
_FIXED = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"te", b"trailer", b"upgrade", b"expect"}
)
Encode = Callable[[str], bytes]


class SecretRefusedError(Exception):
    """The request must not go on. `code`: "secret_misused" or "secret_missing"; the text never has a value in it."""

    def __init__(self, secret: str, reason: str, code: str = "secret_misused") -> None:
        super().__init__(reason)
        self.secret = secret
        self.reason = reason
        self.code = code


@dataclass(frozen=True, slots=True)
class Injected:
    """A head with values in it; its repr shows none. `secrets`: the names of those that are."""

    target: str
    headers: Headers
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Injected({', '.join(self.secrets)})"


class SiteSecrets:
    """The secrets of a sandbox, seen from one site. `given`: those that may go there; `every`: all."""

    def __init__(self, site: Site, given: list[GivenSecret], every: list[GivenSecret]) -> None:
        self._site = site
        self._given = given if site.scheme == "https" else []
        self._own = {one.placeholder for one in given}
        self.placeholders = Placeholders([*every, *given])

    def into_head(self, head: RequestHead) -> Injected:
        """Raises SecretRefusedError."""
        if not self.placeholders:
            return Injected(head.target, head.headers, ())
        used: set[str] = set()
        path, mark, query = head.target.partition("?")
        query = self._replaced("query", query.encode("latin-1"), _percent, used).decode("latin-1")
        headers = tuple((name, self._into_header(name.lower(), value, used)) for name, value in head.headers)
        injected = Injected(path + mark + query, headers, tuple(sorted(used)))
        self._check(head.method, injected)
        return injected

    def into_body(self, head: RequestHead) -> BodyFilter | None:
        """What the body has to pass through; None: nothing of it matters."""
        if not self.placeholders:
            return None
        encode = _body_encoding(head)
        values = {one.placeholder.encode(): one for one in self._given if "body" in one.secret.places}
        return BodyFilter(self.placeholders, self.misused, values, encode)

    def misused(self, one: GivenSecret, where: str) -> SecretRefusedError:
        """The reason why it may not be there."""
        name = one.secret.name
        if one.placeholder not in self._own:
            reason = f"the secret {name} may not go to {self._site.host}"
        elif self._site.scheme != "https":
            reason = f"the secret {name} may not go over plain HTTP, use https"
        else:
            reason = f"the secret {name} may not be in the {where}, only in: {_places(one)}"
        return SecretRefusedError(name, reason)

    def _into_header(self, name: bytes, value: bytes, used: set[str]) -> bytes:
        if name in _FIXED:
            return value
        if name == b"authorization" and value[:6].lower() == b"basic ":
            return self._into_basic(value, used)
        return self._replaced("header", value, _plain, used, header=name.decode("latin-1"))

    def _into_basic(self, value: bytes, used: set[str]) -> bytes:
        try:
            decoded = base64.b64decode(value[6:].strip(), validate=True)
        except binascii.Error:
            return value
        changed = self._replaced("basic", decoded, _plain, used)
        return value if changed == decoded else value[:6] + base64.b64encode(changed)

    def _replaced(self, place: str, text: bytes, encode: Encode, used: set[str], *, header: str = "") -> bytes:
        for one in self._given:
            placeholder = one.placeholder.encode()
            if placeholder in text and _may_be(one, place, header):
                text = text.replace(placeholder, encode(known_value(one)))
                used.add(one.secret.name)
        return text

    def _check(self, method: str, injected: Injected) -> None:
        """Whatever is still there is where it may not be."""
        path, _, query = injected.target.partition("?")
        places = [("method", method.encode("latin-1")), ("path", path.encode("latin-1"))]
        places.append(("query", query.encode("latin-1")))
        for name, value in injected.headers:
            places += [("name of a header", name), (f"header {name.decode('latin-1')}", value)]
        for where, text in places:
            if one := self.placeholders.in_head(text):
                raise self.misused(one, where)


class BodyFilter:
    """One body of a request, piece by piece. Bytes wait only while they may be the beginning of a placeholder, so none
    has left when one is found that may not be there."""

    def __init__(
        self,
        placeholders: Placeholders,
        misused: Callable[[GivenSecret, str], SecretRefusedError],
        values: dict[bytes, GivenSecret],
        encode: Encode,
    ) -> None:
        self._placeholders = placeholders
        self._misused = misused
        self._values = values
        self._encode = encode
        self._held = b""
        self.used: set[str] = set()

    @property
    def changes_length(self) -> bool:
        """Values may be put in: the length of what comes out is not known before its end."""
        return bool(self._values)

    def piece(self, data: bytes) -> bytes:
        """Raises SecretRefusedError."""
        data = self._held + data if self._held else data
        lower = data.lower()
        found = list(self._placeholders.occurrences(lower))
        ended = found[-1][0] + len(found[-1][1].placeholder) if found else 0
        waits = begun_at_end(lower[ended:] if found else lower)
        done, self._held = (data[: len(data) - waits], data[len(data) - waits :]) if waits else (data, b"")
        return self._put(done, found) if found else done

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _put(self, data: bytes, found: list[tuple[int, GivenSecret]]) -> bytes:
        pieces, done = [], 0
        for at, one in found:
            end = at + len(one.placeholder)
            if data[at:end] not in self._values:
                raise self._misused(one, "body")
            pieces += [data[done:at], self._encode(known_value(one))]
            self.used.add(one.secret.name)
            done = end
        return b"".join([*pieces, data[done:]])


def known_value(one: GivenSecret) -> str:
    """Raises SecretRefusedError when nobody knows it, or when it would end a header."""
    if one.value is None:
        reason = f"the node does not have the value of the secret {one.secret.name} now"
        raise SecretRefusedError(one.secret.name, reason, "secret_missing")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in one.value):
        reason = f"the value of the secret {one.secret.name} has characters that no header can carry"
        raise SecretRefusedError(one.secret.name, reason, "secret_missing")
    return one.value


def _may_be(one: GivenSecret, place: str, header: str) -> bool:
    names = {name.lower() for name in one.secret.headers}
    return place in one.secret.places and (place != "header" or not names or header in names)


def _places(one: GivenSecret) -> str:
    headers = f"header {', '.join(one.secret.headers)}" if one.secret.headers else "header"
    return ", ".join(headers if place == "header" else place for place in one.secret.places)


def _plain(value: str) -> bytes:
    return value.encode()


def _percent(value: str) -> bytes:
    return quote(value, safe="").encode()


def _in_json(value: str) -> bytes:
    return json.dumps(value, ensure_ascii=False)[1:-1].encode()


def _body_encoding(head: RequestHead) -> Encode:
    """A value must not end the string that its placeholder stands in."""
    kind = b",".join(head.values(b"content-type")).partition(b";")[0].strip().lower()
    if kind == b"application/x-www-form-urlencoded":
        return _percent
    return _in_json if kind == b"application/json" or kind.endswith(b"+json") else _plain
