"""Published ports by address: any protocol, carried as bytes."""

from __future__ import annotations

import asyncio
import hashlib
import socket

import pytest

from cloche.egress.inward import published
from tests.unit.egress.inward.ingress_world import SANDBOX, SLUG, echo, have_patience
from tests.unit.egress.inward.ingress_world import published as a_world

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


async def test_bytes_pass_both_ways_with_half_close(tmp_path):
    async def server(reader, writer):
        writer.write(b"welcome ")
        said = await reader.read()
        writer.write(said[::-1])

    async with a_world(tmp_path, server) as world:
        async with world.client(world.address) as (reader, writer):
            assert await reader.readexactly(8) == b"welcome "
            writer.write(b"abc")
            writer.write_eof()
            assert await reader.read() == b"cba"
        await world.guest.until_open(0)
    (line,) = (visit.line(None) for visit in world.visits)
    assert (line.verdict, line.protocol, line.sent_bytes, line.received_bytes) == ("allowed", "tcp", 11, 3)


async def test_a_server_that_finishes_first_still_hears_the_rest(tmp_path):
    heard = asyncio.Queue()

    async def server(reader, writer):
        writer.write_eof()
        await heard.put(await reader.read())

    async with a_world(tmp_path, server) as world:
        async with world.client(world.address) as (reader, writer):
            assert await reader.read() == b""
            writer.write(b"still here")
            writer.write_eof()
            assert await heard.get() == b"still here"


async def test_a_large_stream_arrives_whole_and_waits_for_a_slow_reader(tmp_path):
    piece, count = hashlib.sha256(b"seed").digest() * 2048, 500
    sent = 0

    async def server(reader, writer):
        nonlocal sent
        for _ in range(count):
            writer.write(piece)
            await writer.drain()
            sent += 1

    async with a_world(tmp_path, server) as world:
        async with world.client(world.address) as (reader, _):
            await reader.readexactly(1)
            for _ in range(50):
                await asyncio.sleep(0)
            assert sent < count
            rest = await reader.read()
    assert hashlib.sha256(piece[:1] + rest).digest() == hashlib.sha256(piece * count).digest()


async def test_two_hundred_at_once(tmp_path, monkeypatch):
    have_patience(monkeypatch)
    async with a_world(tmp_path, echo) as world:

        async def one(number):
            async with world.client(world.address) as (reader, writer):
                writer.write(b"%d" % number)
                writer.write_eof()
                return await reader.read()

        assert await asyncio.gather(*map(one, range(200))) == [b"%d" % number for number in range(200)]
        await world.guest.until_open(0)


@pytest.mark.parametrize("why", ["closed", "paused", "gone"])
async def test_nobody_there_is_a_reset(tmp_path, monkeypatch, why):
    monkeypatch.setattr(published, "DIAL_SECONDS", 0.05 if why == "paused" else 5.0)
    async with a_world(tmp_path, *([echo] if why == "paused" else [])) as world:
        world.guest.paused = why == "paused"
        if why == "gone":
            world.ingress._streams = {}.get
        async with world.client(world.address) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.read()
    (line,) = (visit.line(None) for visit in world.visits)
    assert (line.verdict, line.reason == "") == ("failed", False)


async def test_unpublishing_ends_connections_and_frees_the_port(tmp_path):
    async with a_world(tmp_path, echo) as world:
        async with world.client(world.address) as (reader, writer):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await world.ingress.unpublish(SANDBOX, 8000)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", world.address)
        await world.ingress.unpublish(SANDBOX, 8000)


async def test_publishing_again_gives_the_same_and_another_port_when_it_is_taken(tmp_path):
    async with a_world(tmp_path, echo) as world:
        assert await world.ingress.publish(SANDBOX, 8000, SLUG, 1) == world.address
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            other = await world.ingress.publish(SANDBOX, 9000, "9000-01abc", port)
        assert other not in (port, world.address)
        await world.ingress.unpublish(SANDBOX, 9000)
        assert await world.ingress.publish(SANDBOX, 9000, "9000-01abc", other) == other


async def test_only_this_machine_is_let_in(tmp_path):
    async with a_world(tmp_path, echo) as world:
        for bound in world.ingress._by_name._sockets + next(iter(world.ingress._by_address.values()))._sockets:
            assert bound.getsockname()[0] in ("127.0.0.1", "::1")
