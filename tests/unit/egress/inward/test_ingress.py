"""Published ports by name: HTTP/1.1 and WebSockets from a client on this machine to a server in a sandbox."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest

from cloche.egress.http import client_side
from cloche.egress.inward import listener, published
from tests.unit.egress.inward.ingress_world import (
    SANDBOX,
    SLUG,
    answer,
    answering,
    echo,
    have_patience,
    ok,
    request,
    unchunked,
)
from tests.unit.egress.inward.ingress_world import published as a_world

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


async def test_a_request_reaches_the_server_with_the_host_that_was_named(tmp_path):
    async with a_world(tmp_path, answering(ok)) as world:
        status, _, body = await world.ask(
            "GET /a?b HTTP/1.1", "X-Forwarded-For: 192.0.2.1", "x-forwarded-proto: https", "Forwarded: for=x",
            "X_Forwarded_For: 192.0.2.1", "X_Real_IP: 192.0.2.1",
            "X-Real-IP: 192.0.2.1", "X-Other: kept",
        )  # fmt: skip
    assert status == 200
    assert body.decode().split("\r\n") == [
        "GET /a?b HTTP/1.1", f"Host: {world.host}", "X-Other: kept", "X-Forwarded-For: 127.0.0.1",
        f"X-Forwarded-Host: {world.host}", "X-Forwarded-Proto: http", "", "",
    ]  # fmt: skip


async def test_each_connection_to_a_port_is_told_when_it_is_over(tmp_path):
    async with a_world(tmp_path, answering(ok(b"hi"))) as world:
        async with world.client() as (reader, writer):
            for _ in range(3):
                writer.write(request("GET / HTTP/1.1", f"Host: {world.host}"))
                await answer(reader)
            assert world.visits == []
        await world.guest.until_open(0)
        del world.guest.ports[8000]
        await world.ask()
    allowed, failed = (visit.line("box") for visit in world.visits)
    assert (allowed.via, allowed.verdict, allowed.host, allowed.port, allowed.protocol, allowed.address) == (
        "publish", "allowed", f"{SLUG}.localhost", 8000, "http", "127.0.0.1")  # fmt: skip
    assert allowed.sent_bytes == 3 * len(ok(b"hi")) and allowed.received_bytes > 100
    assert (failed.verdict, failed.reason) == ("failed", "nothing listens on that port")


async def test_ipv6_loopback_is_served_too(tmp_path):
    async with a_world(tmp_path, answering(ok(b"hi"))) as world:
        try:
            client = world.client(host="::1")
            async with client as (reader, writer):
                writer.write(request("GET / HTTP/1.1", f"Host: {world.host}"))
                assert (await answer(reader))[2] == b"hi"
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")


async def test_a_connection_serves_many_requests_over_one_inside(tmp_path):
    async with a_world(tmp_path, answering(ok(b"hi"))) as world:
        async with world.client() as (reader, writer):
            for _ in range(5):
                writer.write(request("GET / HTTP/1.1", f"Host: {world.host}"))
                assert (await answer(reader))[2] == b"hi"
        assert world.guest.dialled == 1
        await world.guest.until_open(0)


async def test_pipelined_requests_are_answered_in_order(tmp_path):
    async with a_world(tmp_path, answering(lambda head: ok(head.split()[1]))) as world:
        async with world.client() as (reader, writer):
            writer.write(b"".join(request(f"GET /{n} HTTP/1.1", f"Host: {world.host}") for n in range(5)))
            assert [(await answer(reader))[2] for _ in range(5)] == [b"/%d" % n for n in range(5)]


async def test_another_host_on_the_same_connection_goes_where_it_says(tmp_path):
    async with a_world(tmp_path, answering(ok(b"first"))) as world:
        world.guest.ports[9000] = answering(ok(b"second"))
        await world.ingress.publish("sb_02def", 9000, "9000-02def")
        async with world.client() as (reader, writer):
            for host, body in ((SLUG, b"first"), ("9000-02def", b"second"), (SLUG, b"first")):
                writer.write(request("GET / HTTP/1.1", f"Host: {host}.localhost"))
                assert (await answer(reader))[2] == body


@pytest.mark.parametrize("host", [
    "localhost", "127.0.0.1", "[::1]", "evil.example", f"{SLUG}.localhost.evil.example", f"x.{SLUG}.localhost", SLUG,
    f"{SLUG}.localhost.", "8000-01abd.localhost", f"evil{SLUG}.localhost", ".localhost", f"{SLUG}.evil.example",
])  # fmt: skip
async def test_no_other_name_leads_to_a_sandbox(tmp_path, host):
    async with a_world(tmp_path, answering(ok(b"secret"))) as world:
        for named in (host, f"{host}:{world.ingress.port}"):
            status, _, body = await world.ask(host=named)
            assert (status, b"secret" in body, SLUG.encode() in body) == (404, False, False)
        assert world.guest.dialled == 0


async def test_a_name_in_capitals_or_another_port_is_the_same(tmp_path):
    async with a_world(tmp_path, answering(ok(b"hi"))) as world:
        for host in (f"{SLUG.upper()}.LOCALHOST:{world.ingress.port}", f"{SLUG}.localhost:1", f"{SLUG}.localhost"):
            assert (await world.ask(host=host))[2] == b"hi"


async def test_a_server_that_listens_on_the_other_loopback_is_found(tmp_path):
    async with a_world(tmp_path, answering(ok(b"hi"))) as world:
        world.guest.listens_on = b"::1"
        assert (await world.ask())[2] == b"hi"


async def test_nothing_listens_yet_is_a_page_that_comes_back(tmp_path):
    async with a_world(tmp_path) as world:
        status, head, body = await world.ask("GET / HTTP/1.1", "Accept: text/html,*/*;q=0.8")
        assert status == 502
        assert b"\r\nRetry-After: 1\r\n" in head and b"text/html" in head and b"no-store" in head
        assert b'http-equiv="refresh" content="1"' in body and b"port 8000" in body
        status, head, body = await world.ask("GET / HTTP/1.1", "Accept: application/json")
        assert (status, json.loads(body)["error"]["code"]) == (502, "nothing_listens")
        status, head, body = await world.ask("POST / HTTP/1.1", "Content-Length: 3", body=b"abc")
        assert (status, b"text/plain" in head, body[:7]) == (502, True, b"Nothing")
        assert (await world.ask("HEAD / HTTP/1.1"))[0] == 502
        world.guest.ports[8000] = answering(ok(b"hi"))
        assert (await world.ask())[2] == b"hi"


async def test_a_sandbox_that_is_paused_or_has_gone_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "DIAL_SECONDS", 0.05)
    async with a_world(tmp_path, answering(ok(b"hi"))) as world:
        world.guest.paused = True
        status, _, body = await world.ask("GET / HTTP/1.1", "Accept: text/html")
        assert (status, f"<code>cloche resume {SANDBOX}</code>".encode() in body) == (503, True)
        await world.ingress.leave(SANDBOX)
        world.guest.paused = False
        world.ingress._streams = {}.get
        status, _, body = await world.ask("GET / HTTP/1.1", "Accept: application/json")
        assert (status, json.loads(body)["error"]["code"]) == (503, "not_running")
        await world.ingress.unpublish(SANDBOX, 8000)


async def test_a_sandbox_that_comes_back_is_served_again(tmp_path):
    async with a_world(tmp_path, answering(ok(b"hi"))) as world:
        await world.ingress.leave(SANDBOX)
        assert await world.ingress.publish(SANDBOX, 8000, SLUG, world.address) == world.address
        assert (await world.ask())[2] == b"hi"


async def test_websockets_are_carried_both_ways_with_half_close(tmp_path):
    async def server(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Connection: Upgrade\r\n" in head and b"Upgrade: websocket\r\n" in head
        writer.write(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst")
        await echo(reader, writer)

    async with a_world(tmp_path, server) as world:
        async with world.client() as (reader, writer):
            asked = request("GET /ws HTTP/1.1", f"Host: {world.host}", "Upgrade: websocket", "Connection: Upgrade")
            writer.write(asked + b"early")
            assert (await answer(reader))[0] == 101
            assert await reader.readexactly(10) == b"firstearly"
            writer.write(b"more")
            assert await reader.readexactly(4) == b"more"
            writer.write_eof()
            assert await reader.read() == b""
        await world.guest.until_open(0)


async def test_a_refused_upgrade_leaves_the_connection_usable(tmp_path):
    async with a_world(tmp_path, answering(ok(b"no"))) as world:
        async with world.client() as (reader, writer):
            for _ in range(2):
                writer.write(
                    request("GET / HTTP/1.1", f"Host: {world.host}", "Upgrade: websocket", "Connection: Upgrade")
                )
                assert (await answer(reader))[::2] == (200, b"no")


async def test_large_bodies_pass_in_both_directions(tmp_path):
    size = 24 << 20

    async def server(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        chunked = b"chunked" in head
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if chunked:
            data = await unchunked(reader)
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
            return
        left = size
        while left:
            data = await reader.read(1 << 16)
            left -= len(data)
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    piece = hashlib.sha256(b"seed").digest() * 2048
    async with a_world(tmp_path, server) as world:
        async with world.client() as (reader, writer):
            writer.write(request("PUT /f HTTP/1.1", f"Host: {world.host}", f"Content-Length: {size}"))

            async def upload():
                for _ in range(size // len(piece)):
                    writer.write(piece)
                    await writer.drain()

            sending = asyncio.create_task(upload())
            status, _, body = await answer(reader)
            await sending
            assert (status, len(body), body == piece * (size // len(piece))) == (200, size, True)
        status, _, body = await world.ask(
            "POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"5;x=y\r\nhello\r\n0\r\nT: t\r\n\r\n"
        )
        assert (status, body) == (200, b"hello")


async def test_an_answer_before_the_whole_request_is_passed_on(tmp_path):
    async def server(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await reader.read(100)

    async with a_world(tmp_path, server) as world:
        async with world.client() as (reader, writer):
            writer.write(request("PUT / HTTP/1.1", f"Host: {world.host}", "Content-Length: 100000") + b"begin")
            assert (await answer(reader))[::2] == (413, b"no")
            assert await reader.read() == b""


async def test_continue_is_asked_and_answered(tmp_path):
    async def server(reader, writer):
        assert b"Expect: 100-continue" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.write(ok(await reader.readexactly(5)))

    async with a_world(tmp_path, server) as world:
        async with world.client() as (reader, writer):
            writer.write(request("PUT / HTTP/1.1", f"Host: {world.host}", "Expect: 100-continue", "Content-Length: 5"))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"hello")
            assert (await answer(reader))[2] == b"hello"


async def test_events_arrive_as_they_are_sent(tmp_path):
    go_on = asyncio.Event()

    async def server(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await writer.drain()
        await go_on.wait()
        writer.write(b"data: 2\n\n")

    async with a_world(tmp_path, server) as world:
        async with world.client() as (reader, writer):
            writer.write(request("GET / HTTP/1.1", f"Host: {world.host}"))
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(9) == b"data: 1\n\n"
            go_on.set()
            assert await reader.read() == b"data: 2\n\n"


async def test_a_client_that_leaves_ends_the_connection_inside(tmp_path):
    async def server(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with a_world(tmp_path, server) as world:
        async with world.client() as (reader, writer):
            writer.write(request("GET / HTTP/1.1", f"Host: {world.host}"))
            await reader.readexactly(1 << 20)
            await world.guest.until_open(1)
        await world.guest.until_open(0)


async def test_a_server_that_closed_its_idle_connection_is_asked_again(tmp_path):
    async def once(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"hi"))

    async with a_world(tmp_path, once) as world:
        async with world.client() as (reader, writer):
            for count in (1, 2, 3):
                writer.write(request("GET / HTTP/1.1", f"Host: {world.host}"))
                assert (await answer(reader))[2] == b"hi"
                assert world.guest.dialled == count
                await world.guest.until_open(0)


@pytest.mark.parametrize("said", [
    b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    b"HTTP/1.1 101 No\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
])  # fmt: skip
async def test_a_server_that_speaks_no_http_is_a_readable_502(tmp_path, said):
    async def server(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    async with a_world(tmp_path, server) as world:
        status, _, body = await world.ask("POST / HTTP/1.1", "Content-Length: 0", "Accept: application/json")
        assert (status, json.loads(body)["error"]["code"]) == (502, "bad_answer")


async def test_an_answer_cannot_reach_into_the_next_one(tmp_path):
    async with a_world(tmp_path, answering(ok(b"hi") + ok(b"poison"))) as world:
        async with world.client() as (reader, writer):
            for _ in range(3):
                writer.write(request("GET / HTTP/1.1", f"Host: {world.host}"))
                assert (await answer(reader))[2] == b"hi"


@pytest.mark.parametrize(("sent", "status"), [
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: yyyyyyyyyyyyyyy\r\n" * 4000, 431), (b"\x16\x03\x01\x00\x05\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: a\n\n", 400), (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 404),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
])  # fmt: skip
async def test_what_is_no_request_is_refused(tmp_path, sent, status):
    async with a_world(tmp_path, answering(ok(b"hi"))) as world:
        async with world.client() as (reader, writer):
            writer.write(sent)
            assert (await answer(reader))[0] == status


async def test_a_head_that_never_ends_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(client_side, "HEAD_SECONDS", 0.05)
    async with a_world(tmp_path, answering(ok(b"hi"))) as world:
        async with world.client() as (reader, writer):
            writer.write(b"GET / HT")
            assert (await answer(reader))[0] == 408


async def test_unpublishing_ends_what_is_open(tmp_path):
    async def silent(reader, writer):
        await reader.read()

    async with a_world(tmp_path, silent) as world:
        async with world.client() as (reader, writer):
            writer.write(request("GET / HTTP/1.1", f"Host: {world.host}"))
            await world.guest.until_open(1)
            await world.ingress.unpublish(SANDBOX, 8000)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await answer(reader)
        await world.guest.until_open(0)
        assert (await world.ask())[0] == 404


async def test_unpublishing_ends_a_connection_that_rests(tmp_path):
    async with a_world(tmp_path, answering(ok(b"hi"))) as world:
        async with world.client() as (reader, writer):
            writer.write(request("GET / HTTP/1.1", f"Host: {world.host}"))
            await answer(reader)
            await world.ingress.unpublish(SANDBOX, 8000)
            await world.guest.until_open(0)


async def test_a_hundred_at_once(tmp_path, monkeypatch):
    have_patience(monkeypatch)
    async with a_world(tmp_path, answering(lambda head: ok(head.split()[1]))) as world:
        found = await asyncio.gather(*(world.ask(f"GET /{n} HTTP/1.1") for n in range(100)))
        assert [body for _, _, body in found] == [b"/%d" % n for n in range(100)]
        await world.guest.until_open(0)


async def test_more_connections_than_the_bound_are_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 1)
    async with a_world(tmp_path, answering(ok(b"hi"))) as world:
        async with world.client() as (reader, writer):
            writer.write(request("GET / HTTP/1.1", f"Host: {world.host}"))
            await answer(reader)
            async with world.client() as (other, _):
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await answer(other)
