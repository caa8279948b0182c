"""A guest that gives one answer to everything: for tests of what single calls send, and make of an answer."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from cloche.engines.fake.streams import MemoryChannel, MemoryStream, pair
from cloche.guest_api import Guest

DONE = b"HTTP/1.1 204 No Content\r\n\r\n"


class Scripted:
    """`head` and `body` are those of the last request."""

    def __init__(self) -> None:
        self.answer, self.head, self.body = DONE, b"", b""
        self.tasks: list[asyncio.Task[None]] = []

    def connect(self) -> MemoryStream:
        ours, theirs = pair()
        self.tasks.append(asyncio.get_running_loop().create_task(self._serve(theirs)))
        return ours

    async def _serve(self, stream: MemoryStream) -> None:
        seen = b""
        while not _is_whole(seen):
            more = await stream.read(65536)
            if not more:
                return
            seen += more
        self.head, _, self.body = seen.partition(b"\r\n\r\n")
        await stream.write(self.answer)
        await stream.close()


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(end) and (not lengths or len(body) >= int(lengths[0].split(b":")[1]))


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    made = Scripted()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


@pytest.fixture
async def guest(scripted: Scripted) -> AsyncIterator[Guest]:
    async with Guest(MemoryChannel(scripted.connect)) as client:
        yield client


def answer(status: int, body: object = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content)
