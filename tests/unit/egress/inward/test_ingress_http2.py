"""Published ports by name: HTTP/2 without TLS, from a client on this machine to a server in a sandbox."""

from __future__ import annotations

import asyncio
import json

import pytest

from cloche.egress.http import client_side
from cloche.egress.inward.http2_first import PREFACE
from tests.unit.egress.inward.http2_world import GREETING, HELLO, NOTED, asking, block, frame, headers, next_frame, page
from tests.unit.egress.inward.ingress_world import SANDBOX, SLUG, answer, echo, ok, request
from tests.unit.egress.inward.ingress_world import published as a_world

pytestmark = pytest.mark.anyio

HOST = f"{SLUG}.localhost"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


async def test_bytes_pass_as_they_are_in_both_directions(tmp_path):
    async with a_world(tmp_path, echo) as world:
        async with world.client() as (reader, writer):
            data = asking(f"{HOST}:{world.ingress.port}")
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            writer.write(b"whatever comes later")
            writer.write_eof()
            assert await reader.read() == b"whatever comes later"
        await world.guest.until_open(0)
    (line,) = (visit.line(None) for visit in world.visits)
    count = len(data) + 20
    assert (line.verdict, line.protocol, line.host) == ("allowed", "http2", HOST)
    assert (line.sent_bytes, line.received_bytes) == (count, count)


async def test_who_asks_in_pieces_is_understood(tmp_path):
    async with a_world(tmp_path, echo) as world:
        async with world.client() as (reader, writer):
            data = asking(HOST)
            writer.write(data[:11])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(data[11:30])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(data[30:] + NOTED)
            heard = await reader.readexactly(9)
            rest = await reader.readexactly(len(data) if heard == GREETING else len(data) - 9)
            assert (rest if heard == GREETING else heard + rest) == data


async def test_who_waits_for_the_server_is_greeted(tmp_path):
    """Its own note of that does not reach the server, and the server's settings follow."""
    heard = asyncio.Queue()

    async def server(reader, writer):
        writer.write(frame(4, 0, 0, b"\0\3\0\0\0\x0a"))
        await heard.put(await reader.readexactly(len(asking(HOST))))
        assert await next_frame(reader) == (4, 1, 0, b"")
        await heard.put(b"noted")

    async with a_world(tmp_path, server) as world:
        async with world.client() as (reader, writer):
            writer.write(HELLO)
            assert await next_frame(reader) == (4, 0, 0, b"")
            assert world.guest.dialled == 0
            writer.write(NOTED)
            writer.write(headers(block(HOST)))
            assert await next_frame(reader) == (4, 0, 0, b"\0\3\0\0\0\x0a")
            writer.write(NOTED)
            assert await heard.get() == asking(HOST)
            assert await heard.get() == b"noted"


@pytest.mark.parametrize("host", [
    "localhost", "127.0.0.1", "evil.example", f"{SLUG}.localhost.evil.example", f"x.{SLUG}.localhost", SLUG,
    f"{SLUG}.localhost.", "8000-01abd.localhost", None,
])  # fmt: skip
async def test_no_other_name_leads_to_a_sandbox(tmp_path, host):
    async with a_world(tmp_path, echo) as world:
        async with world.client() as (reader, writer):
            writer.write(asking(host))
            status, _, body = await page(reader)
        assert (status, SLUG.encode() in body, world.guest.dialled) == (404, False, 0)


async def test_nothing_listens_is_an_answer_to_the_request(tmp_path):
    async with a_world(tmp_path) as world:
        async with world.client() as (reader, writer):
            writer.write(asking(HOST, ("accept", "application/json")))
            status, head, body = await page(reader)
        assert (status, json.loads(body)["error"]["code"]) == (502, "nothing_listens")
        assert (head["retry-after"], head["content-type"]) == ("1", "application/json; charset=utf-8")
        async with world.client() as (reader, writer):
            writer.write(HELLO)
            assert await next_frame(reader) == (4, 0, 0, b"")
            writer.write(NOTED + headers(block(HOST, method="HEAD")))
            status, _, body = await page(reader)
        assert (status, body) == (502, b"")
    assert {visit.line(None).reason for visit in world.visits} == {"nothing listens on that port"}


async def test_a_sandbox_that_has_gone_is_said_to_have(tmp_path):
    async with a_world(tmp_path, echo) as world:
        await world.ingress.leave(SANDBOX)
        world.ingress._streams = {}.get
        async with world.client() as (reader, writer):
            writer.write(asking(HOST))
            status, _, body = await page(reader)
            assert (status, b"does not run" in body) == (503, True)


@pytest.mark.parametrize(
    "data", [PREFACE + b"\0" * 9, HELLO + frame(0, 0, 1), asking(f"{HOST}, b"), PREFACE[:18] + b"?" * 6]
)
async def test_what_is_no_http_2_is_told_so(tmp_path, data):
    async with a_world(tmp_path, echo) as world:
        async with world.client() as (reader, writer):
            writer.write(data)
            if data.startswith(PREFACE):
                assert (await next_frame(reader))[0] == 4
                kind, _, _, payload = await next_frame(reader)
                assert (kind, payload[7]) == (7, 1)
            else:
                assert (await answer(reader))[0] == 505
            assert await reader.read() == b""
        assert world.guest.dialled == 0


@pytest.mark.parametrize("data", [PREFACE, PREFACE[:5], HELLO + headers(block(HOST), flags=1)])
async def test_what_never_ends_is_cut(tmp_path, monkeypatch, data):
    monkeypatch.setattr(client_side, "HEAD_SECONDS", 0.05)
    async with a_world(tmp_path, echo) as world:
        async with world.client() as (reader, writer):
            writer.write(data)
            heard = await reader.read()
            assert (heard[:9] == GREETING) == (len(data) >= len(PREFACE))


async def test_who_leaves_without_asking_is_let_go(tmp_path):
    async with a_world(tmp_path, echo) as world:
        for data in (b"", PREFACE[:3], PREFACE, HELLO):
            async with world.client() as (reader, writer):
                writer.write(data)
                writer.write_eof()
                await reader.read()
    assert world.visits == []


async def test_unpublishing_ends_what_is_open(tmp_path):
    async with a_world(tmp_path, echo) as world:
        async with world.client() as (reader, writer):
            writer.write(asking(HOST))
            await reader.readexactly(9)
            await world.ingress.unpublish(SANDBOX, 8000)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1 << 20)
        await world.guest.until_open(0)


async def test_going_over_from_http_1_is_not_proposed_inside(tmp_path):
    """After it nobody would look at requests any more: who asks for it gets HTTP/1.1, as from a server without it."""

    async def server(reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(ok(head))

    async with a_world(tmp_path, server) as world:
        async with world.client() as (reader, writer):
            for _ in range(2):
                writer.write(
                    request("GET / HTTP/1.1", f"Host: {HOST}", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
                            "HTTP2-Settings: AAMAAABk")
                )  # fmt: skip
                status, _, heard = await answer(reader)
                assert (status, b"upgrade" in heard.lower(), b"http2" in heard.lower()) == (200, False, False)


async def test_a_server_that_goes_over_unasked_is_no_server(tmp_path):
    async def server(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")

    async with a_world(tmp_path, server) as world:
        assert (await world.ask("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c"))[0] == 502
