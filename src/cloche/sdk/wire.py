"""How requests and answers are written: paths, queries, JSON with undecodable names, errors. No I/O.

The standard library's JSON is used because names that are not UTF-8 travel as lone surrogates (guest/README.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from cloche.model import errors
from cloche.model.errors import ClocheError, InvalidError, VersionMismatchError

T = TypeVar("T")
Query = Mapping[str, object]

API_VERSION = 1
_RESTART = "cloche node stop (the next command starts one that fits)"
#: this client asks only for what a node of its own version knows
_OLDER = ("no such route: ", "object contains unknown field ")


class ConnectionLostError(errors.NodeUnreachableError):
    """The node went away in the middle of an answer. What was asked may have happened."""


def target(path: str, query: Query | None = None) -> str:
    """A request target. None values are left out, booleans are 1 and 0, a list repeats its key."""
    pairs = [f"{key}={_text(value)}" for key, values in (query or {}).items() for value in _each(values)]
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def segment(text: str) -> str:
    """A reference as one segment of a path. Raises InvalidError for what can name nothing."""
    if not text or "/" in text or text in (".", ".."):
        raise InvalidError(f"{text!r} is neither an id nor a name", field="ref")
    return _quoted(text)


def encode(value: object) -> bytes:
    """JSON. Raises InvalidError for a string that stands for no bytes."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError) as error:
        raise InvalidError(f"cannot be written as JSON: {error}") from error


def decode(body: bytes, kind: type[T]) -> T:
    """Raises VersionMismatchError when the node's answer is not of the agreed shape."""
    try:
        return msgspec.convert(json.loads(body), kind)
    except (ValueError, RecursionError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise VersionMismatchError(f"the node's answer is no {name}: {error}", remedy=_RESTART) from error


def error_from(status: int, body: bytes) -> ClocheError:
    """The typed error of an answer that is not 2xx."""
    try:
        error = errors.from_json(json.loads(body))
    except (ValueError, RecursionError):
        return ClocheError(f"the node answered {status}: {body[:200].decode('utf-8', 'replace')}")
    if error.remedy is None and any(sign in error.message for sign in _OLDER):
        error.remedy = f"the node was started by another version of Cloche: {_RESTART}"
    return error


def check_version(headers: list[tuple[bytes, bytes]]) -> None:
    """Raise VersionMismatchError when the answer comes from a node of another API version."""
    for name, value in headers:
        if name.lower() == b"cloche-api-version" and value != b"%d" % API_VERSION:
            raise VersionMismatchError(
                f"the node speaks API version {value.decode('latin-1')}, this client {API_VERSION}",
                remedy=_RESTART,
            )


def as_dict(body: bytes) -> dict[str, Any]:
    return decode(body, dict[str, Any])


def _each(values: object) -> list[object]:
    if values is None:
        return []
    return list(values) if isinstance(values, list | tuple) else [values]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return _quoted(str(value))


def _quoted(text: str) -> str:
    try:
        return quote(text, safe="/~", errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidError(f"{text!r} stands for no bytes: {error.reason}") from error
