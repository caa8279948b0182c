"""JSON whose strings may carry bytes that are not UTF-8, as lone surrogates U+DC80…U+DCFF (Python's surrogateescape).

msgspec refuses such strings in both directions, so the standard library's codec takes over where one can occur.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from cloche.model.errors import GuestError, InvalidError

T = TypeVar("T")

#: of an answer with escaped bytes, which is built whole before it is typed: a bound on what that takes
MAX_ESCAPED_ITEMS = 1 << 20

_MARKS = (b"\\ud", b"\\uD")


def encode(value: object) -> bytes:
    """Raises InvalidError for what has no JSON form (a surrogate that stands for no byte, NaN)."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return _encode_escaped(msgspec.to_builtins(value))


def decode(data: bytes, kind: type[T]) -> T:
    """`data` as a `kind`. Raises GuestError for anything else."""
    try:
        if any(mark in data for mark in _MARKS):
            return msgspec.convert(_decode_escaped(data), kind)
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise GuestError(f"the guest sent something that is no {getattr(kind, '__name__', kind)}: {error}") from error


def path_bytes(text: str) -> bytes:
    """The bytes that a string of this wire stands for. Raises InvalidError when it stands for none."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidError(f"{text!r} stands for no bytes: {error.reason}") from error


def _encode_escaped(value: Any) -> bytes:
    _each_string(value, path_bytes)
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    except ValueError as error:
        raise InvalidError(f"no JSON form: {error}") from error


def _decode_escaped(data: bytes) -> Any:
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_ESCAPED_ITEMS:
        raise ValueError(f"more than {MAX_ESCAPED_ITEMS} items")
    value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    _each_string(value, _check_decoded)
    return value


def _check_decoded(text: str) -> None:
    text.encode("utf-8", "surrogateescape")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _each_string(value: Any, check: Any) -> None:
    """Iterative, so that deep nesting costs no stack."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            check(item)
        elif isinstance(item, dict):
            left.extend(item.keys())
            left.extend(item.values())
        elif isinstance(item, list | tuple):
            left.extend(item)
