"""The channel over one pipe: streams that behave as sockets, and guests that vanish, lie or never answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cloche.channel import mux_frames as wire
from cloche.channel import muxed
from cloche.channel.mux import Mux
from cloche.channel.mux_stream import Inbox
from cloche.channel.muxed import MuxChannel
from cloche.channel.unix import address_of
from cloche.model.errors import LimitHitError, SandboxDeadError, TimedOutError

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


class Guest:
    """The other end of the pipe: as a chardev, it takes one host at a time. Echoes unless `act` does something else."""

    def __init__(self, listener: socket.socket) -> None:
        self.mux = Mux.guest()
        self.act: Callable[[wire.Event], None] = self.echo
        self.events: list[wire.Event] = []
        self.heard = asyncio.Condition()
        self.silent = False
        #: so many connections more on which it hears nothing
        self.misses = 0
        self._listener = listener
        self._owed: dict[int, deque[bytes]] = {}
        self._over: set[int] = set()
        self._sock: socket.socket | None = None

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._sock, _ = await loop.sock_accept(self._listener)
            with contextlib.suppress(OSError):
                await self._talk(self._sock)
            self._sock.close()

    async def _talk(self, sock: socket.socket) -> None:
        loop, self.misses = asyncio.get_running_loop(), self.misses - 1
        while received := await loop.sock_recv(sock, 1 << 18):
            for event in [] if self.silent or self.misses >= 0 else self.mux.receive(received):
                event = wire.Data(event.stream, bytes(event.payload)) if isinstance(event, wire.Data) else event
                self.events.append(event)
                self.act(event)
            async with self.heard:
                self.heard.notify_all()
            await self.flush()

    async def flush(self) -> None:
        assert self._sock
        while self.mux.waiting:
            await asyncio.get_running_loop().sock_sendall(self._sock, self.mux.take())
            self._repay()

    def hang_up(self) -> None:
        assert self._sock
        self._sock.shutdown(socket.SHUT_RDWR)

    async def until(self, kind: type[wire.Event], count: int = 1) -> None:
        async with self.heard:
            await self.heard.wait_for(lambda: sum(isinstance(event, kind) for event in self.events) >= count)

    def echo(self, event: wire.Event) -> None:
        match event:
            case wire.Began():
                self._owed.clear()
                self._over.clear()
            case wire.Data(stream, payload):
                self._owed.setdefault(stream, deque()).append(bytes(payload))
            case wire.Finished(stream):
                self._over.add(stream)
            case wire.Reset(stream, _):
                self._owed.pop(stream, None)
                self._over.discard(stream)
        self._repay()

    def _repay(self) -> None:
        for stream, owed in self._owed.items():
            while owed:
                count = self.mux.send(stream, owed[0])
                self.mux.consumed(stream, count)
                owed[0] = owed[0][count:]
                if owed[0]:
                    break
                owed.popleft()
        for stream in [stream for stream in self._over if not self._owed.get(stream)]:
            self._owed.pop(stream, None)
            self._over.discard(stream)
            self.mux.finish(stream)


@contextlib.asynccontextmanager
async def serving(path: Path, **settings: float) -> AsyncIterator[tuple[MuxChannel, Guest]]:
    with socket.socket(socket.AF_UNIX) as listener:
        with address_of(path) as address:
            listener.bind(address)
        listener.listen(1)
        listener.setblocking(False)
        guest, channel = Guest(listener), MuxChannel(path, **settings)  # type: ignore[arg-type]
        serving = asyncio.ensure_future(guest.serve())
        try:
            yield channel, guest
        finally:
            await channel.close()
            serving.cancel()
            await asyncio.wait([serving])
            if guest._sock:
                guest._sock.close()


async def read_all(stream: object) -> bytes:
    found = bytearray()
    while piece := await stream.read(1 << 20):  # type: ignore[attr-defined]
        found += piece
    return bytes(found)


def ignore(event: wire.Event) -> None:
    """An act."""


async def test_bytes_go_both_ways_and_half_close_ends_one(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, _):
        stream = await channel.open()
        await stream.write(b"hello")
        assert await stream.read(3) == b"hel"
        assert stream.readable()
        assert await stream.read(100) == b"lo"
        assert not stream.readable()
        await stream.write_eof()
        with pytest.raises(BrokenPipeError):
            await stream.write(b"x")
        assert await stream.read(100) == b""
        await stream.close()
        await stream.close()
        for use in (stream.read(1), stream.write(b"x"), stream.write_eof()):
            with pytest.raises(ConnectionResetError):
                await use


async def test_a_path_longer_than_an_address(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 120)
    long.mkdir()
    async with serving(long / "channel.sock") as (channel, _):
        stream = await channel.open()
        await stream.write(b"x")
        assert await stream.read(1) == b"x"


async def test_much_goes_both_ways_at_once(tmp_path: Path) -> None:
    content = os.urandom(5 << 20)
    async with serving(tmp_path / "s") as (channel, _):
        stream = await channel.open()
        reading = asyncio.ensure_future(read_all(stream))
        for at in range(0, len(content), 333_333):
            await stream.write(content[at : at + 333_333])
        await stream.write_eof()
        assert await reading == content


async def test_a_thousand_streams_at_once(tmp_path: Path) -> None:
    async def one(number: int) -> None:
        stream = await channel.open()
        content = number.to_bytes(4, "big") * 5000
        reading = asyncio.ensure_future(read_all(stream))
        await stream.write(content)
        await stream.write_eof()
        assert await reading == content
        await stream.close()

    async with serving(tmp_path / "s") as (channel, _):
        await asyncio.gather(*map(one, range(1000)))
        await asyncio.gather(*map(one, range(1000)))


async def test_one_stream_more_than_allowed_is_a_limit(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, _):
        streams = [await channel.open() for _ in range(wire.MAX_STREAMS)]
        with pytest.raises(LimitHitError):
            await channel.open()
        await streams[0].close()
        await channel.open()


async def test_a_reader_that_sleeps_stalls_no_other(tmp_path: Path) -> None:
    def flood(event: wire.Event) -> None:
        guest.echo(event)
        if flooded and not isinstance(event, wire.Began):
            guest.mux.send(flooded[0], bytes(1 << 20))

    flooded: list[int] = []
    async with serving(tmp_path / "s") as (channel, guest):
        guest.act = flood
        sleeper, other = await channel.open(), await channel.open()
        flooded.append(1)
        for number in range(50):
            await other.write(bytes([number]) * 70_000)
            got = b""
            while len(got) < 70_000:
                got += await other.read(1 << 20)
            assert got == bytes([number]) * 70_000
        assert sleeper._inbox.size == wire.WINDOW_BYTES
        flooded.clear()
        got = b""
        while len(got) < wire.WINDOW_BYTES:
            got += await sleeper.read(1 << 20)


async def test_a_writer_waits_for_the_window_and_a_cancelled_one_leaves_the_stream_usable(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, guest):
        guest.act = ignore
        stream = await channel.open()
        writing = asyncio.ensure_future(stream.write(bytes(wire.WINDOW_BYTES + 100)))
        await guest.until(wire.Data, 4)
        assert not writing.done()
        writing.cancel()
        await asyncio.wait([writing])
        guest.mux.consumed(1, wire.WINDOW_BYTES)
        await guest.flush()
        await stream.write(b"and more")
        await guest.until(wire.Data, 5)
        assert guest.events[-1] == wire.Data(1, b"and more")


async def test_a_cancelled_read_loses_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, _):
        stream = await channel.open()
        for _ in range(50):
            reading = asyncio.ensure_future(stream.read(100))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            await stream.write(b"x")
            assert await stream.read(100) == b"x"


@pytest.mark.parametrize("what", ["close_now", "reset", "hang_up"])
async def test_whoever_waits_is_told(tmp_path: Path, what: str) -> None:
    async with serving(tmp_path / "s") as (channel, guest):
        guest.act = ignore
        stream = await channel.open()
        reading = asyncio.ensure_future(stream.read(1))
        writing = asyncio.ensure_future(stream.write(bytes(1 << 20)))
        await guest.until(wire.Data, 4)
        if what == "close_now":
            stream.close_now()
        elif what == "reset":
            guest.mux.reset(1, wire.CANCELLED)
            await guest.flush()
        else:
            guest.hang_up()
        with pytest.raises(ConnectionResetError):
            await writing
        if what == "close_now":
            assert await reading == b""
        else:
            with pytest.raises(ConnectionResetError):
                await reading
        assert stream.readable()


async def test_a_lost_connection_ends_every_stream_and_the_next_open_makes_another(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, guest):
        streams = [await channel.open() for _ in range(10)]
        reading = [asyncio.ensure_future(stream.read(1)) for stream in streams]
        await guest.until(wire.Opened, 10)
        guest.hang_up()
        for task, stream in zip(reading, streams, strict=True):
            with pytest.raises(ConnectionResetError):
                await task
            with pytest.raises(ConnectionResetError):
                await stream.write(b"x")
            await stream.close()
        stream = await channel.open()
        await stream.write(b"again")
        assert await stream.read(9) == b"again"
        assert sum(isinstance(event, wire.Began) for event in guest.events) == 2


async def test_what_came_before_the_end_is_not_lost(tmp_path: Path) -> None:
    def refuse(event: wire.Event) -> None:
        if isinstance(event, wire.Opened):
            guest.mux.send(event.stream, b"no room")
            guest.mux.close(event.stream)

    async with serving(tmp_path / "s") as (channel, guest):
        guest.act = refuse
        stream = await channel.open()
        with pytest.raises(ConnectionError):
            while True:
                await stream.write(b"x" * 65536)
        assert await stream.read(100) == b"no room"
        assert await stream.read(100) == b""


async def test_a_refused_stream_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, guest):
        guest.act = lambda event: guest.mux.reset(1, wire.REFUSED) if isinstance(event, wire.Opened) else None
        stream = await channel.open()
        with pytest.raises(ConnectionResetError, match="refused"):
            await stream.read(1)


async def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    for name in ("missing", "dead"):
        with pytest.raises(SandboxDeadError):
            await MuxChannel(tmp_path / name).open()


async def test_a_guest_that_does_not_answer_yet_may_answer_the_next_time(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", answer_seconds=0.05) as (channel, guest):
        guest.silent = True
        with pytest.raises(TimedOutError):
            await channel.open()
        guest.silent = False
        channel._answer_seconds = 60
        await channel.open()


async def test_a_hello_that_is_not_answered_is_said_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muxed, "HELLO_SECONDS", 0.01)
    async with serving(tmp_path / "s") as (channel, guest):
        guest.misses = 2
        stream = await channel.open()
        await stream.write(b"hello")
        assert await stream.read(100) == b"hello"


async def test_a_guest_that_ends_before_it_answers_is_dead(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, guest):
        guest.silent = True
        opening = [asyncio.ensure_future(channel.open()) for _ in range(3)]
        async with guest.heard:
            await guest.heard.wait()
        guest.hang_up()
        for task in opening:
            with pytest.raises(SandboxDeadError):
                await task


async def test_one_that_gives_up_waiting_does_not_disturb_the_others(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, guest):
        first, second = asyncio.ensure_future(channel.open()), asyncio.ensure_future(channel.open())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        await (await second).write(b"x")
        await guest.until(wire.Data)
        assert sum(isinstance(event, wire.Began) for event in guest.events) == 1


async def test_closing_the_channel_ends_what_waits_and_it_can_be_used_again(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, guest):
        guest.silent = True
        opening = asyncio.ensure_future(channel.open())
        async with guest.heard:
            await guest.heard.wait()
        await channel.close()
        with pytest.raises(ConnectionResetError):
            await opening
        guest.silent = False
        stream = await channel.open()
        reading = asyncio.ensure_future(stream.read(1))
        await guest.until(wire.Opened)
        await channel.close()
        with pytest.raises(ConnectionResetError):
            await reading
        await channel.open()


async def test_a_guest_that_breaks_the_rules_loses_its_connection(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, guest):
        stream = await channel.open()
        await guest.until(wire.Opened)
        guest.act = lambda event: guest.mux._out.put(b"not a frame at all") if guest.events[-1:] == [event] else None
        await stream.write(b"x")
        with pytest.raises(ConnectionResetError, match="breaks the rules"):
            await stream.read(1)
        guest.act = guest.echo
        stream = await channel.open()
        await stream.write(b"x")
        assert await stream.read(1) == b"x"


async def test_streams_of_the_guest_are_refused_until_somebody_accepts(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", backlog=2) as (channel, guest):
        guest.act = ignore
        await channel.open()
        guest.mux.open()
        await guest.flush()
        await guest.until(wire.Reset)
        assert guest.events[-1] == wire.Reset(2, wire.REFUSED)
        accepting = asyncio.ensure_future(channel.accept())
        await asyncio.sleep(0)
        accepted = guest.mux.open()
        guest.mux.send(accepted, b"hello")
        await guest.flush()
        stream = await accepting
        assert await stream.read(100) == b"hello"
        await stream.write(b"good day")
        await guest.until(wire.Data)
        assert guest.events[-1] == wire.Data(accepted, b"good day")
        refused = [guest.mux.open() for _ in range(3)][-1]
        await guest.flush()
        await guest.until(wire.Reset, 2)
        assert guest.events[-1] == wire.Reset(refused, wire.REFUSED)
        assert len([await channel.accept(), await channel.accept()]) == 2


async def test_accepting_outlives_a_cancelled_waiter_and_ends_with_the_connection(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, guest):
        guest.act = ignore
        await channel.open()
        waiting = [asyncio.ensure_future(channel.accept()) for _ in range(3)]
        await asyncio.sleep(0)
        guest.mux.open()
        await guest.flush()
        waiting[0].cancel()
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await waiting[1]
        guest.hang_up()
        with pytest.raises(ConnectionResetError):
            await waiting[2]


async def test_a_flood_of_small_frames_leaves_the_loop_to_others(tmp_path: Path) -> None:
    async with serving(tmp_path / "s") as (channel, guest):
        guest.act = ignore
        stream = await channel.open()
        await guest.until(wire.Opened)
        turns, frames = 0, 200_000
        for _ in range(frames):
            guest.mux._frame(wire.WINDOW, 1, 1)
        guest.mux._out.put(wire.header(wire.DATA, 1, 1, guest.mux._tag) + b"!" + guest.mux._epoch[:4])
        flushing = asyncio.ensure_future(guest.flush())
        reading = asyncio.ensure_future(stream.read(1))
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        await flushing
        assert turns > 10


def test_small_pieces_take_no_more_room_than_their_bytes() -> None:
    inbox = Inbox()
    for _ in range(100_000):
        inbox.put(b"x")
    assert len(inbox._pieces) < 10
    inbox.put(bytes(5000))
    inbox.put(b"yz")
    assert inbox.size == 105_002
    assert b"".join(iter(lambda: inbox.take(777) if inbox.size else b"", b"")) == b"x" * 100_000 + bytes(5000) + b"yz"
