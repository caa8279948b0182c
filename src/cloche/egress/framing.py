"""Where the body of an HTTP/1 message ends, how it is read and how it is written anew. Without I/O.

Bodies pass in the pieces in which they come: a piece of a body with a length is never copied. Chunks are taken apart and
made anew, so nothing that is odd about them (extensions, sizes with zeros in front, trailers) reaches the other side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Framing:
    """`kind`: "none"; "length"; "chunked"; "close" (a response, until the connection ends); "tunnel" (CONNECT, 101:
    raw bytes both ways from here). `length` in bytes, of "length" only."""

    kind: Literal["none", "length", "chunked", "close", "tunnel"]
    length: int = 0


class BodyWriter:
    """Writes one body with this framing."""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing

    def piece(self, data: bytes) -> bytes:
        """What to send for these bytes of the body. Raises ValueError beyond the length."""
        raise NotImplementedError

    def end(self) -> bytes:
        """What to send at the end. Raises ValueError before the length is reached."""
        raise NotImplementedError
