"""The events of one execution (guest/README.md, "Code contexts"): lines of JSON in, events out, no I/O.

The interpreter runs hostile code, and the guest only bounds what that says. So each line, its size, its number and its
place in the sequence are checked before anybody uses it; no more is held than one line that is not complete.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from cloche.guest_api import text
from cloche.guest_api.bounds import MAX_INTEGER, MAX_TIME, require
from cloche.model.code import (
    MAX_EVENT_BYTES,
    Accepted,
    CodeEnded,
    CodeEvent,
    CodeGap,
    CodeResult,
    Keepalive,
    Started,
)
from cloche.model.errors import GuestError

CONTENT_TYPE = "application/x-ndjson"
CONTEXT_ID = re.compile(r"c_[0-9A-Za-z]{26}")
EXECUTION_ID = re.compile(r"x_[0-9A-Za-z]{26}")
#: of values inside a JSON representation
MAX_DEPTH = 128
#: what a line up to this size becomes in memory needs no bound of its own
LARGE_BYTES = 1 << 20
#: values of JSON, and keys, in a line that is larger: decoded, each takes up to a hundred bytes for two of the line
MAX_ITEMS = 1 << 20

_DECODER: msgspec.json.Decoder[CodeEvent] = msgspec.json.Decoder(CodeEvent)


def encode(event: CodeEvent) -> bytes:
    """One line."""
    return text.encode(event) + b"\n"


class _Undecoded(msgspec.Struct):
    """A result whose values stay as they are."""

    data: dict[str, msgspec.Raw] = {}
    metadata: msgspec.Raw = msgspec.Raw(b"{}")


def decode(line: bytes) -> CodeEvent:
    """One event by itself. Raises GuestError."""
    if len(line) > LARGE_BYTES:
        _bound_items(line)
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # it is wrong, or has bytes that are not UTF-8: both are this one's to tell
        found: CodeEvent = text.decode(line, CodeEvent)  # type: ignore[arg-type]
        return found


class EventDecoder:
    """Feed bytes as they come; take whole events. Raises GuestError at the first thing the wire does not allow.

    `after`: the `seq` that was asked to be the last one known; None for a new execution, which begins with Accepted."""

    def __init__(self, *, after: int | None = None) -> None:
        self._buffer = bytearray()
        self._next = 1 + (after or 0)
        self._is_new = after is None
        self._started = False
        self.execution_id: str | None = None
        self.ended = False

    def feed(self, data: bytes) -> list[CodeEvent]:
        """The events that `data` completes."""
        if b"\n" not in data:
            self._buffer += data
            self._bound(len(self._buffer))
            return []
        first, *others = data.split(b"\n")
        self._buffer += first
        lines = [bytes(self._buffer), *others]
        self._buffer = bytearray(lines.pop())
        for line in (*lines, self._buffer):
            self._bound(len(line))
        return [self._event(line) for line in lines]

    def finish(self) -> None:
        """Call at the end of the bytes. Raises GuestError when it cuts a line."""
        if self._buffer:
            raise GuestError(f"the events end inside a line, {len(self._buffer)} bytes after its beginning")
        if self._is_new and self._next == 1:
            raise GuestError("the events end before the first of them")

    def _bound(self, size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise GuestError(f"an event of more than {MAX_EVENT_BYTES} bytes")

    def _event(self, line: bytes) -> CodeEvent:
        event = decode(line)
        if isinstance(event, Keepalive):
            return event
        if self.ended:
            raise GuestError("an event after the execution has ended")
        self._advance(event)
        self._check(event)
        return event

    def _advance(self, event: Any) -> None:
        expected = self._next
        if isinstance(event, CodeGap):
            require(not self._is_new, "a gap in what is followed from its beginning")
            require(event.lost_events > 0, "a gap of nothing")
            expected += event.lost_events - 1
        if event.seq != expected:
            raise GuestError(f"event {event.seq}, expected {expected}")
        require(isinstance(event, Accepted) == (event.seq == 1) or isinstance(event, CodeGap), "the first event")
        require(event.seq < MAX_INTEGER, "seq")
        self._next = event.seq + 1

    def _check(self, event: CodeEvent) -> None:
        if isinstance(event, Accepted):
            _accepted(event)
            self.execution_id = event.execution_id
        elif isinstance(event, Started):
            require(not self._started, "an execution that starts twice")
            self._started = True
            require(0 < event.number <= MAX_INTEGER, "number")
            require(math.isfinite(event.at) and 0 <= event.at <= MAX_TIME, "at")
        elif isinstance(event, CodeResult):
            require(_is_shallow(event.data) and _is_shallow(event.metadata), "depth of a result")
        elif isinstance(event, CodeEnded):
            require(math.isfinite(event.wall_seconds) and 0 <= event.wall_seconds <= MAX_TIME, "wall_seconds")
            self.ended = True


def _bound_items(line: bytes) -> None:
    require(line.count(b'":') <= MAX_ITEMS, "keys of an event")
    result = text.decode(line, _Undecoded) if b"\\ud" not in line.lower() else _Undecoded()
    for value in map(bytes, (*result.data.values(), result.metadata)):
        is_text = value.startswith(b'"')
        require(is_text or sum(map(value.count, (b",", b"[", b"{"))) <= MAX_ITEMS, "items of a result")


def _accepted(event: Accepted) -> None:
    require(bool(EXECUTION_ID.fullmatch(event.execution_id)), "execution id")
    require(bool(CONTEXT_ID.fullmatch(event.context_id)), "context id")
    require(0 <= event.ahead <= MAX_INTEGER, "ahead")


def _is_shallow(value: object) -> bool:
    """Iterative, so that depth costs no stack."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return True
    return False


def _inside(item: object) -> list[object]:
    if isinstance(item, dict):
        return [inner for inner in item.values() if isinstance(inner, dict | list)]
    if isinstance(item, list):
        return [inner for inner in item if isinstance(inner, dict | list)]
    return []
