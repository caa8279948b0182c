"""What a channel is. A host end opens streams; each behaves like one connected socket."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class ByteStream(Protocol):
    """One ordered, flow-controlled, bidirectional stream of bytes."""

    async def read(self, max_bytes: int) -> bytes:
        """Up to `max_bytes`; b"" when the other end has finished sending. Raises ConnectionError when it is gone."""

    async def write(self, data: bytes) -> None:
        """Return when the bytes are accepted (backpressure). Raises ConnectionError when the other end is gone."""

    async def write_eof(self) -> None:
        """Half-close: the other end reads b"" from now on."""

    async def close(self) -> None:
        """Give the stream up in both directions; safe to call twice."""


class Channel(Protocol):
    """The way to one guest. It may be used by many tasks at once."""

    async def open(self) -> ByteStream:
        """A new stream to the guest's HTTP server. Raises SandboxDeadError when nobody can answer any more."""

    @property
    def direct_path(self) -> Path | None:
        """A unix socket at which the guest's HTTP server listens, one connection for each stream; None: only this
        channel leads to it."""

    async def close(self) -> None:
        """Close every stream that is open; the sandbox goes on."""
