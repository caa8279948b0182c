"""One guest client per living sandbox, made on first use and closed when the sandbox ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from cloche.channel.base import Channel
from cloche.guest_api import Body, Guest
from cloche.model.errors import GuestError
from cloche.model.sandbox import SandboxRecord
from cloche.service.boxes import Boxes

MAX_SMALL_ANSWER_BYTES = 16 << 20


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


class ForwardedReply:
    """GuestReply over what `Guest.forward` returns."""

    def __init__(self, status: int, headers: Mapping[str, str], body: AsyncIterable[bytes]) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    def stream(self) -> AsyncIterator[bytes]:
        return aiter(self._body)

    async def read(self) -> bytes:
        content = bytearray()
        async for chunk in self._body:
            content += chunk
            if len(content) > MAX_SMALL_ANSWER_BYTES:
                raise GuestError(f"the guest's answer is larger than {MAX_SMALL_ANSWER_BYTES} bytes")
        return bytes(content)


class Guests:
    def __init__(self, boxes: Boxes) -> None:
        self._boxes = boxes
        self._links: dict[str, asyncio.Task[tuple[Channel, Guest]]] = {}

    async def get(self, record: SandboxRecord) -> Guest:
        """The sandbox's one client. Raises SandboxDeadError when its guest does not run."""
        return (await self._link(record))[1]

    async def channel(self, record: SandboxRecord) -> Channel:
        """What the client goes over. Raises as `get`."""
        return (await self._link(record))[0]

    async def _link(self, record: SandboxRecord) -> tuple[Channel, Guest]:
        sandbox_id = record.sandbox.id
        link = self._links.get(sandbox_id)
        if link is None:
            link = self._links[sandbox_id] = asyncio.ensure_future(self._open(record))
        try:
            # one caller that gives up must not take the connection from the others
            return await asyncio.shield(link)
        except BaseException:
            if link.done() and self._links.get(sandbox_id) is link:
                del self._links[sandbox_id]
            raise

    async def _open(self, record: SandboxRecord) -> tuple[Channel, Guest]:
        channel = await self._boxes.engine(record).open_channel(self._boxes.box(record))
        return channel, Guest(channel)

    async def close(self, sandbox_id: str) -> None:
        """Forget the client of one sandbox; the sandbox goes on."""
        link = self._links.pop(sandbox_id, None)
        if link is None:
            return
        with contextlib.suppress(Exception):
            channel, guest = await link
            await guest.close()
            await channel.close()

    async def close_all(self) -> None:
        for sandbox_id in list(self._links):
            await self.close(sandbox_id)


@asynccontextmanager
async def forward(
    guest: Guest, method: str, target: bytes, headers: Mapping[str, str] | None,
    body: AsyncIterator[bytes] | bytes | None,
) -> AsyncIterator[GuestReply]:  # fmt: skip
    """One exchange, byte for byte. Leaving it ends the stream."""
    sent = [(key.encode("ascii"), value.encode("ascii")) for key, value in (headers or {}).items()]
    content: Body = b"" if body is None else body
    status, answered, answer = await guest.forward(method, target, sent, content)
    try:
        found = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in answered}
        yield ForwardedReply(status, found, answer)
    finally:
        await answer.aclose()
