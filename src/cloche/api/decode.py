"""Requests into typed values. Wrong types and unknown fields are InvalidError with the field named."""

from __future__ import annotations

import functools
import json
import re
import types
import typing
from typing import Any, TypeVar
from urllib.parse import quote, unquote_to_bytes

import msgspec

from cloche.model.errors import InvalidError

T = TypeVar("T")

MAX_QUERY_BYTES = 64 << 10
MAX_QUERY_FIELDS = 256

_AT = re.compile(r" - at `(key in )?\$([^`]*)`$")
_NAMED = re.compile(r"(?:unknown|missing required) field `([^`]*)`")


def body(data: bytes, kind: type[T]) -> T:
    """JSON as a `kind`; no body at all counts as `{}`. Raises InvalidError."""
    data = data or b"{}"
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise refused(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _with_surrogates(data, kind, error)


def fields(data: bytes) -> frozenset[str]:
    """The names at the top of a JSON object that `body` has accepted."""
    return frozenset(json.loads(data or b"{}"))


def query(raw: bytes, kind: type[T]) -> T:
    """A query string as a `kind`: numbers and booleans from their text, a list from a repeated name."""
    many = _repeatable(typing.cast(Any, kind))
    found: dict[str, Any] = {}
    for name, value in pairs(raw):
        if name in many:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise InvalidError(f"the query names {name!r} twice", field=name)
        else:
            found[name] = value
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise refused(error) from error
    except UnicodeEncodeError as error:
        raise InvalidError("the query has bytes outside UTF-8 where none can be meant", field="query") from error


def again(asked: msgspec.Struct) -> str:
    """A decoded query as a query string, defaults spelled out: what the guest reads is what was checked."""
    values = ((name, getattr(asked, name)) for name in asked.__struct_fields__)
    return "&".join(f"{name}={_escaped(value)}" for name, value in values if value is not None)


def pairs(raw: bytes) -> list[tuple[str, str]]:
    """Names and values of a query string; bytes that are not UTF-8 come as lone surrogates."""
    if len(raw) > MAX_QUERY_BYTES or raw.count(b"&") >= MAX_QUERY_FIELDS:
        raise InvalidError("the query string is too long", field="query")
    parts = (part.partition(b"=") for part in raw.split(b"&") if part)
    return [(_text(name), _text(value)) for name, _, value in parts]


def refused(error: msgspec.ValidationError) -> InvalidError:
    """msgspec's own words, with the place that they name as `details["field"]`."""
    said = str(error)
    at = _AT.search(said)
    named = _NAMED.search(said)
    path = at[2].removeprefix(".") if at else ""
    field = ".".join(part for part in (path, named[1] if named else "") if part)
    what = said[: at.start()] if at else said
    return InvalidError(f"{field or 'body'}: {what[:1].lower()}{what[1:]}", field=field or "body")


def _with_surrogates(data: bytes, kind: type[T], first: Exception) -> T:
    """Again with the standard library, which accepts the lone surrogates that stand for bytes outside UTF-8."""
    try:
        value = json.loads(data, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except (ValueError, RecursionError):
        raise InvalidError(f"the body is not JSON: {first}", field="body") from first
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise refused(error) from error
    except UnicodeEncodeError as error:
        raise InvalidError("the body has a lone surrogate where none can be meant", field="body") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _text(escaped: bytes) -> str:
    text = unquote_to_bytes(escaped.replace(b"+", b" ")).decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise InvalidError("a query value may not contain NUL", field="query")
    return text


def _escaped(value: object) -> str:
    plain = str(int(value)) if isinstance(value, bool) else str(value)
    return quote(plain, safe="/", errors="surrogateescape")


@functools.cache
def _repeatable(kind: Any) -> frozenset[str]:
    hints = typing.get_type_hints(kind)
    return frozenset(name for name, hint in hints.items() if _is_list(hint))


def _is_list(hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_is_list(part) for part in typing.get_args(hint))
    return typing.get_origin(hint) is list
