"""Connections to a guest: used again, never more than allowed, and never after anything went wrong on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cloche.engines.fake.streams import MemoryChannel, MemoryStream, pair
from cloche.guest_api import network
from cloche.guest_api.network import Connections, Exchange, exchange
from cloche.http1 import Headers
from cloche.model.errors import GuestError, InvalidError, LimitHitError, SandboxDeadError

pytestmark = pytest.mark.anyio
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
NO_BODY: Headers = [(b"Content-Length", b"0")]


class Guest:
    """Each stream that is opened is served by hand: `opened[n]` is the guest's end of it."""

    def __init__(self) -> None:
        self.opened: list[MemoryStream] = []
        self.channel = MemoryChannel(self._connect)

    def _connect(self) -> MemoryStream:
        ours, theirs = pair()
        self.opened.append(theirs)
        return ours


@pytest.fixture
def guest() -> Guest:
    return Guest()


def ask(connections: Connections) -> asyncio.Future[Exchange]:
    return asyncio.ensure_future(exchange(connections, "GET", b"/x", NO_BODY, b"", None))


async def request(guest: Guest) -> MemoryStream:
    """The guest's end of the stream on which a request has come, which is taken."""
    while True:
        for stream in guest.opened:
            if not stream.closed and stream.readable() and (await stream.read(65536)).startswith(b"GET /x"):
                return stream
        await asyncio.sleep(0)


async def asked(connections: Connections, guest: Guest, answer: bytes = WHOLE) -> Exchange:
    asking = ask(connections)
    await (await request(guest)).write(answer)
    return await asking


async def test_a_connection_is_used_again_when_its_answer_was_complete(guest: Guest) -> None:
    connections = Connections(guest.channel, most=2, kept=1)
    for _ in range(3):
        answer = await asked(connections, guest)
        assert await answer.read(10) == b"hi"
        await answer.aclose()
        await answer.aclose()
    assert len(guest.opened) == 1
    half = await asked(connections, guest, WHOLE[:-1])
    await half.aclose()
    assert guest.opened[0].readable()
    await connections.close()


@pytest.mark.parametrize("end", ["closed", "spoke"])
async def test_a_kept_connection_on_which_anything_happened_is_given_up(guest: Guest, end: str) -> None:
    connections = Connections(guest.channel, most=2, kept=1)
    first = await asked(connections, guest)
    await first.read(10)
    await first.aclose()
    await (guest.opened[0].close() if end == "closed" else guest.opened[0].write(WHOLE))
    answer = await asked(connections, guest, WHOLE.replace(b"hi", b"ho"))
    assert (await answer.read(10), len(guest.opened)) == (b"ho", 2)
    await connections.close()


async def test_more_than_allowed_wait_and_are_refused(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "CONNECT_SECONDS", 0.01)
    connections = Connections(guest.channel, most=1, kept=1)
    held = await asked(connections, guest)
    with pytest.raises(LimitHitError):
        await exchange(connections, "GET", b"/x", NO_BODY, b"", None)
    await held.read(10)
    await held.aclose()
    await (await asked(connections, guest)).aclose()
    assert len(guest.opened) == 1


async def test_closing_breaks_what_is_under_way_and_frees_its_place(guest: Guest) -> None:
    connections = Connections(guest.channel, most=1, kept=1)
    held = await asked(connections, guest, WHOLE[:-1])
    reading = asyncio.ensure_future(held.read(10))
    await asyncio.sleep(0)
    await connections.close()
    with pytest.raises(SandboxDeadError):
        await reading
    await held.aclose()
    # the next stream is a new one
    assert (await asked(connections, guest)).status == 200


@pytest.mark.parametrize("length", [b"1", b"3", b"-1", b"x", b"9" * 30])
async def test_a_body_is_as_long_as_it_says(guest: Guest, length: bytes) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    connections = Connections(guest.channel, most=1, kept=1)
    for content in (b"ab", body()):
        with pytest.raises(InvalidError):
            await exchange(connections, "PUT", b"/x", [(b"Content-Length", length)], content, None)


async def test_who_gives_up_frees_the_place(guest: Guest) -> None:
    connections = Connections(guest.channel, most=1, kept=1)
    asking = ask(connections)
    await request(guest)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await asked(connections, guest)).status == 200


async def test_an_answer_that_came_before_the_body_was_taken(guest: Guest) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    connections = Connections(guest.channel, most=1, kept=1)
    chunked: Headers = [(b"Transfer-Encoding", b"chunked")]
    asking = asyncio.ensure_future(exchange(connections, "GET", b"/x", chunked, endless(), None))
    stream = await request(guest)
    await stream.write(b"HTTP/1.1 507 No\r\nContent-Length: 0\r\n\r\n")
    await stream.close()
    answer = await asking
    assert answer.status == 507
    await answer.aclose()


async def test_an_upgrade_only_where_it_was_asked_for(guest: Guest) -> None:
    switched = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: cloche-stream\r\n\r\n"
    with pytest.raises(GuestError):
        await asked(Connections(guest.channel, most=1, kept=1), guest, switched)


async def test_a_request_without_a_body_is_nothing_but_its_head(guest: Guest) -> None:
    """What is sent behind a head that promises no body would be taken for the next request."""
    connections = Connections(guest.channel, most=1, kept=1)
    asking = asyncio.ensure_future(exchange(connections, "GET", b"/x", [(b"Host", b"guest")], b"", None))
    while not guest.opened or not guest.opened[0].readable():  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert await guest.opened[0].read(65536) == b"GET /x HTTP/1.1\r\nHost: guest\r\n\r\n"
    await guest.opened[0].write(WHOLE)
    await (await asking).aclose()
    await connections.close()
