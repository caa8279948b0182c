"""Published ports by address: any protocol, carried as bytes."""

from __future__ import annotations

import asyncio
import hashlib
import socket

import pytest

from cloche.egress.inward import carrying, published
from tests.unit.egress.inward.ingress_world import SANDBOX, SLUG, answer, echo, have_patience, request
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


PAGE = request("POST /steal HTTP/1.1", "Host: rebound.example:80", "Content-Length: 4") + b"body"


@pytest.mark.parametrize("pieces", [1, 30, 1 << 16])
async def test_a_page_of_another_name_gets_a_page_of_ours(tmp_path, pieces):
    async with a_world(tmp_path, echo) as world:
        async with world.client(world.address) as (reader, writer):
            for at in range(0, len(PAGE), pieces):
                writer.write(PAGE[at : at + pieces])
                await asyncio.sleep(0)
            writer.write_eof()
            status, _, body = await answer(reader)
            assert (status, b"--any-host" in body, b"rebound" in body) == (421, True, False)
            assert await reader.read() == b""
        await world.guest.until_open(0)
    (line,) = (visit.line(None) for visit in world.visits)
    assert (line.verdict, line.received_bytes, line.sent_bytes) == ("denied", 0, 0)


async def test_a_head_that_never_ends_is_refused(tmp_path):
    async with a_world(tmp_path, echo) as world:
        async with world.client(world.address) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nX: " + b"y" * (64 << 10))
            assert (await answer(reader))[0] == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", f"{SLUG}.localhost", None])
async def test_requests_for_this_machine_pass_as_they_are(tmp_path, host):
    async with a_world(tmp_path, echo) as world:
        async with world.client(world.address) as (reader, writer):
            asked = request("GET / HTTP/1.1", *([f"Host: {host}"] if host else []))
            writer.write(asked[:20])
            await asyncio.sleep(0)
            writer.write(asked[20:])
            assert await reader.readexactly(len(asked)) == asked


async def test_any_host_is_let_in_where_somebody_wants_that(tmp_path):
    async with a_world(tmp_path, echo) as world:
        assert await world.ingress.publish(SANDBOX, 8000, SLUG, 0, True) == world.address
        async with world.client(world.address) as (reader, writer):
            writer.write(PAGE)
            assert await reader.readexactly(len(PAGE)) == PAGE
        assert await world.ingress.publish(SANDBOX, 8000, SLUG, 0) == world.address
        async with world.client(world.address) as (reader, writer):
            writer.write(PAGE)
            assert (await answer(reader))[0] == 421


@pytest.mark.parametrize("first", [b"ping", b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_who_pauses_is_no_browser(tmp_path, monkeypatch, first):
    monkeypatch.setattr(carrying, "PATIENCE_SECONDS", dict.fromkeys(["word", "line", "head"], 0.01))
    async with a_world(tmp_path, echo) as world:
        async with world.client(world.address) as (reader, writer):
            writer.write(first)
            assert await reader.readexactly(len(first)) == first


async def test_a_server_that_speaks_first_is_heard_meanwhile(tmp_path):
    async def server(reader, writer):
        writer.write(b"220 hello\r\n")
        await echo(reader, writer)

    async with a_world(tmp_path, server) as world:
        async with world.client(world.address) as (reader, writer):
            assert await reader.readline() == b"220 hello\r\n"
            writer.write(b"EHLO me\r\n")
            assert await reader.readline() == b"EHLO me\r\n"


async def test_who_leaves_before_saying_anything_leaves_nothing(tmp_path):
    async with a_world(tmp_path, echo) as world:
        async with world.client(world.address):
            await world.guest.until_open(1)
        await world.guest.until_open(0)
