"""Identifiers: a kind, an underscore and a ULID in lower case, so that ids sort by the time they were made."""

from __future__ import annotations

import os
import re
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
SANDBOX_ID = re.compile(r"sb_[0-7][0-9a-hjkmnp-tv-z]{25}")
EVENT_ID = re.compile(r"ev_[0-7][0-9a-hjkmnp-tv-z]{25}")
#: characters after `sb_` below which a prefix is not accepted as a reference
MIN_PREFIX = 4
_RANDOM_BITS = 80


class UlidMaker:
    """128 bits: milliseconds since the epoch, then random bits which grow within one millisecond, so order holds."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self, milliseconds: int) -> str:
        """26 characters, greater than every one made before by this maker even when the clock goes back."""
        with self._lock:
            fresh = milliseconds << _RANDOM_BITS | int.from_bytes(os.urandom(10), "big")
            # a step back of the clock, or the same millisecond, must not break the order of a listing
            behind = fresh >> _RANDOM_BITS <= self._last >> _RANDOM_BITS
            self._last = self._last + 1 if behind else fresh
            return encode(self._last)


def encode(value: int) -> str:
    """128 bits → 26 characters of Crockford's base 32."""
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


_MAKER = UlidMaker()


def new_sandbox_id() -> str:
    return "sb_" + _MAKER.next(time.time_ns() // 1_000_000)


def new_event_id() -> str:
    return "ev_" + _MAKER.next(time.time_ns() // 1_000_000)


def new_snapshot_id() -> str:
    return "sn_" + _MAKER.next(time.time_ns() // 1_000_000)


def new_capture_id() -> str:
    """Of a capture that lives only as long as a fork does."""
    return "cp_" + _MAKER.next(time.time_ns() // 1_000_000)


def new_intent_id() -> str:
    return "in_" + _MAKER.next(time.time_ns() // 1_000_000)


def following(event_id: str) -> str:
    """The id right above this one, for an event that comes later although its clock says otherwise."""
    kind, _, text = event_id.rpartition("_")
    value = 0
    for letter in text:
        value = value << 5 | _ALPHABET.index(letter)
    return f"{kind}_{encode(value + 1)}"


def is_event_id(text: str) -> bool:
    return EVENT_ID.fullmatch(text) is not None


def is_sandbox_id(text: str) -> bool:
    return SANDBOX_ID.fullmatch(text) is not None


def is_id_prefix(text: str) -> bool:
    """Long enough, and shaped like the beginning of a sandbox id."""
    rest = text.removeprefix("sb_")
    return rest != text and MIN_PREFIX <= len(rest) <= 26 and all(letter in _ALPHABET for letter in rest)
