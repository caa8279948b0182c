"""One guest client per living sandbox, made on first use and closed when the sandbox ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol


class GuestReply(Protocol):
    """The head of a guest's answer, and its body as it arrives."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Lower-case names."""

    def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces as the guest sends them; once only."""

    async def read(self) -> bytes:
        """The whole body; for small answers."""


class Guests:
    async def close(self, sandbox_id: str) -> None:
        """Forget the client of one sandbox; the sandbox goes on."""
        raise NotImplementedError
