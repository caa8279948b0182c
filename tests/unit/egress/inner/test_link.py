from __future__ import annotations

import asyncio
import socket

import pytest

from cloche.egress.budget import TokenBucket
from cloche.egress.inner import link
from cloche.egress.inner.guest_words import FromGuest, Head, Refused, framed
from cloche.egress.inner.link import Link
from cloche.egress.outward.sockets import SocketStream

pytestmark = pytest.mark.anyio
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: cloche-door\r\n\r\n"
HEAD = framed({"kind": "proxy"})


class Guest:
    """It uses each stream at once. `served`: those that the door carries."""

    def __init__(self) -> None:
        self.served: list[asyncio.Future[None]] = []
        self._theirs: list[socket.socket] = []
        self.control: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self.grew = asyncio.Event()

    async def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        # the first is the control stream
        theirs.sendall(SWITCHED + (HEAD if self._theirs else b""))
        self._theirs.append(theirs)
        if not self.control.done():
            self.control.set_result(theirs)
        return ours

    async def serve(self, _: SocketStream, head: Head) -> None:
        self.served.append(asyncio.get_running_loop().create_future())
        self.grew.set()
        await self.served[-1]

    async def heard(self, word: FromGuest) -> None:
        raise AssertionError(word)

    async def until(self, count: int) -> None:
        while len(self.served) < count:
            await self.grew.wait()
            self.grew.clear()

    def close(self) -> None:
        for sock in self._theirs:
            sock.close()


async def test_streams_that_are_served_leave_no_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "MAX_OPEN", 10)
    guest = Guest()
    running = asyncio.ensure_future(Link(guest.connect, guest.serve, guest.heard).run())
    try:
        await guest.until(10)
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(guest.served) == 10
        guest.served[0].set_result(None)
        await guest.until(11)
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(guest.served) == 11
    finally:
        running.cancel()
        await asyncio.wait([running])
        guest.close()


async def test_what_takes_longer_to_be_read_counts_as_several(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []

    class Bucket(TokenBucket):
        def take(self, count: float) -> None:
            taken.append(count)
            super().take(count)

    monkeypatch.setattr(link, "TokenBucket", Bucket)
    guest, heard = Guest(), asyncio.Event()

    async def hear(word: FromGuest) -> None:
        if isinstance(word, Refused):
            heard.set()

    running = asyncio.ensure_future(Link(guest.connect, guest.serve, hear).run())
    try:
        control = await guest.control
        long = b'{"op":"sung","song":"%s"}\n' % (b"a" * 40_000)
        odd = b'{"op":"resolve","id":1,"name":"\\uff41.example"}\n'
        control.sendall(long + odd + b'{"op":"refused","host":"a.example"}\n')
        await heard.wait()
        assert taken == [10, 21, 1]
    finally:
        running.cancel()
        await asyncio.wait([running])
        guest.close()
