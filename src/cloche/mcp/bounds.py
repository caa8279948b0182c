"""How much of what a sandbox says reaches a model, and in which form: bounded, valid Unicode, nothing that steers a
terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Taker = Callable[[bytes], None]
MAX_TEXT_BYTES = 64 << 10
#: sequences for terminals: CSI, OSC and the like up to their ends, then single escapes
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]?", re.S)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class HeadTail:
    """Keeps the beginning and the end of a stream of bytes, half of `limit` each, and counts what lay between."""

    def __init__(self, limit: int = MAX_TEXT_BYTES) -> None:
        self._half = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self._half - len(self._head)
        self._head += data[:room] if room > 0 else b""
        self._tail += data[max(room, 0) :][-self._half :]
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    @property
    def left_out(self) -> int:
        """Bytes that are not in `text`."""
        return self.total - len(self._head) - min(len(self._tail), self._half)

    def text(self) -> str:
        """What is kept, as plain text, with a line that says how much is missing and where."""
        head, tail = bytes(self._head), bytes(self._tail[-self._half :])
        if not self.left_out:
            return plain(head + tail)
        return f"{plain(head)}\n[… {self.left_out} bytes left out …]\n{plain(tail)}"


def both(first: Taker, second: Taker) -> Taker:
    """One taker of bytes that gives them to two."""

    def take(data: bytes) -> None:
        first(data)
        second(data)

    return take


def of_text(take: Taker) -> Callable[[str], None]:
    """A taker of text, in which bytes that were no text are lone surrogates."""
    return lambda text: take(text.encode("utf-8", "surrogatepass"))


def cut(text: str, limit: int = MAX_TEXT_BYTES) -> str:
    """A text that is at hand, bounded like a stream."""
    kept = HeadTail(limit)
    kept.add(text.encode("utf-8", "surrogatepass"))
    return kept.text()


def plain(data: bytes) -> str:
    """Bytes as text without terminal sequences, control characters and marks that turn the direction of text."""
    text = data.decode("utf-8", "replace")
    if text.isprintable():
        return text
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text))


def scrub(value: Any) -> Any:
    """A JSON value without lone surrogates, which no JSON on the wire can carry."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {scrub(key): scrub(item) for key, item in value.items()}
    return [scrub(item) for item in value] if isinstance(value, list) else value


def one_line(name: str) -> str:
    """A name that a sandbox chose, so that it cannot pass for two lines or hide a part of itself."""
    return scrub("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name))  # type: ignore[no-any-return]
