"""Streams over unix sockets: long paths, dead ends, backpressure, closing while somebody waits."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cloche.channel.unix import TURN_BYTES, UnixChannel
from cloche.model.errors import SandboxDeadError

pytestmark = pytest.mark.anyio
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@contextlib.asynccontextmanager
async def listening(path: Path, handler: Handler) -> AsyncIterator[UnixChannel]:
    here = Path.cwd()
    os.chdir(path.parent)  # an address of a long path does not fit for the server either
    try:
        server = await asyncio.start_unix_server(handler, path.name)
    finally:
        os.chdir(here)
    channel = UnixChannel(path)
    try:
        yield channel
    finally:
        await channel.close()
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


async def test_bytes_go_both_ways_and_half_close_ends_one(tmp_path: Path) -> None:
    async with listening(tmp_path / "s", echo) as channel:
        stream = await channel.open()
        await stream.write(b"hello")
        await stream.write_eof()
        assert await stream.read(100) == b"hello"
        assert await stream.read(100) == b""
        await stream.close()
        await stream.close()


def open_paths() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found


async def test_a_path_longer_than_an_address(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 120) / ("e" * 120) / "guest.sock"
    long.parent.mkdir(parents=True)
    async with listening(long, echo) as channel:
        stream = await channel.open()
        await stream.write(b"x")
        assert await stream.read(1) == b"x"
        assert str(long.parent) not in open_paths()


@pytest.mark.parametrize("name", ["missing", "stale", "file/beneath", "n" * 300 + "/missing"])
async def test_nobody_there_is_a_dead_sandbox(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    async with listening(tmp_path / "stale", echo):
        pass
    with pytest.raises(SandboxDeadError):
        await UnixChannel(tmp_path / name).open()


async def test_a_writer_waits_for_a_reader_that_does_not_read(tmp_path: Path) -> None:
    never = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await never.wait()
        writer.close()

    async with listening(tmp_path / "s", deaf) as channel:
        stream = await channel.open()
        writing = asyncio.ensure_future(stream.write(b"x" * (16 << 20)))
        done, _ = await asyncio.wait({writing}, timeout=0.2)
        assert not done
        await stream.close()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(writing, 5)
        never.set()


async def test_closing_wakes_who_waits(tmp_path: Path) -> None:
    async with listening(tmp_path / "s", stay) as channel:
        stream = await channel.open()
        reading = asyncio.ensure_future(stream.read(1))
        await asyncio.wait({reading}, timeout=0.05)
        await channel.close()
        assert await asyncio.wait_for(reading, 5) == b""
        with pytest.raises(ConnectionError):
            await stream.read(1)
        with pytest.raises(ConnectionError):
            await stream.write(b"x")


async def test_an_answer_sent_before_closing_is_not_lost_to_a_failed_write(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"no room")
        await writer.drain()
        writer.close()

    async with listening(tmp_path / "s", refuse) as channel:
        stream = await channel.open()
        with pytest.raises(ConnectionError):
            while True:
                await stream.write(b"x" * 65536)
        assert await stream.read(100) == b"no room"


async def test_a_full_queue_of_connections_is_waited_for(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen(0)
    channel = UnixChannel(tmp_path / "s")
    opening = [asyncio.ensure_future(channel.open()) for _ in range(3)]
    await asyncio.wait(opening, timeout=0.2)
    assert not all(task.done() for task in opening)
    accepted = [await asyncio.to_thread(listener.accept) for _ in range(3)]
    streams = await asyncio.wait_for(asyncio.gather(*opening), 5)
    assert len(streams) == 3
    await channel.close()
    for sock, _ in accepted:
        sock.close()
    listener.close()


async def test_a_closed_peer_is_readable(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    async with listening(tmp_path / "s", leave) as channel:
        stream = await channel.open()
        assert not stream.readable()
        gone.set()
        assert await stream.read(1) == b""
        assert stream.readable()


async def test_a_stream_at_full_rate_lets_others_run(tmp_path: Path) -> None:
    size = 32 << 20
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def pour() -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(ConnectionError):
            peer.sendall(b"x" * size)

    pouring = asyncio.ensure_future(asyncio.to_thread(pour))
    stream = await UnixChannel(tmp_path / "s").open()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    left = size
    while left:
        left -= len(await stream.read(65536))
    counting.cancel()
    assert turns >= size // TURN_BYTES
    await pouring
    await stream.close()
    listener.close()
