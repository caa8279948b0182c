"""Requests over plain connections: framing, reuse, refusals, and peers that do not behave."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from cloche.egress.hooks import Site, Tunnel
from cloche.egress.http import client_side, exchange
from cloche.egress.http.flow import serve_requests
from tests.egress_peers import VALUE, PeerHooks, a_client, a_door, a_secret, a_site, answering, echo, ok, read_request

pytestmark = pytest.mark.anyio

NAME = "api.example.com"
SITE = Site(NAME, 80)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@contextlib.asynccontextmanager
async def through(handler, hooks=None, site=SITE, tunnels=None):
    """A client whose requests reach `handler` through the door."""
    hooks = hooks or PeerHooks()

    async def serve(stream):
        tunnel = await serve_requests(stream, site, hooks)
        if tunnels is not None:
            tunnels.append(tunnel)
            await stream.close()

    async with a_site(handler) as address:
        hooks.sites[NAME] = address
        async with a_door(serve) as door, a_client(door) as client:
            yield client, hooks


def a_get(path="/", *headers, host=NAME):
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{''.join(h + chr(13) + chr(10) for h in headers)}\r\n".encode()


def a_post(body, *headers):
    more = "".join(f"{header}\r\n" for header in headers)
    return f"POST /p HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


async def test_a_request_and_its_answer():
    async with through(answering(ok(b"hello", b"X-A: 1"))) as (client, hooks):
        status, head, body = await client.ask(a_get("/x?q=1"))
    assert (status, body) == (200, b"hello") and b"X-A: 1" in head
    (record,) = hooks.records
    assert (record.method, record.path, record.status, record.verdict) == ("GET", "/x", 200, "allowed")
    assert record.sent_bytes > 0 and record.received_bytes > 5 and hooks.decided[0] == (NAME, 80, "http", "GET", "/x")


async def test_requests_share_one_connection_on_both_sides():
    async with through(echo) as (client, hooks):
        for number in range(5):
            assert f"GET /{number} ".encode() in (await client.ask(a_get(f"/{number}")))[2]
    assert len(hooks.dialled) == 1 and len(hooks.records) == 5


async def test_pipelined_requests_are_answered_in_order():
    async with through(echo) as (client, _):
        await client.say(b"".join(a_get(f"/{number}") for number in range(4)))
        for number in range(4):
            assert f"GET /{number} ".encode() in (await client.answer())[2]


async def test_a_denied_request_leaves_nothing_upstream():
    seen = []
    async with through(answering(ok(), seen=seen), PeerHooks(denied={"/no"})) as (client, hooks):
        assert (await client.ask(a_get("/yes")))[0] == 200
        status, _, body = await client.ask(a_get("/no"))
        assert await client.reader.read() == b""
    assert status == 403 and len(seen) == 1
    error = json.loads(body)["error"]
    assert error["code"] == "egress_denied" and error["remedy"] == f"cloche policy allow box {NAME}"
    assert hooks.records[-1].verdict == "denied"


async def test_a_denied_body_is_drained_so_that_the_answer_is_read():
    async with through(echo, PeerHooks(denied={"/p"})) as (client, hooks):
        status, _, _ = await client.ask(a_post(b"x" * 50_000))
    assert status == 403 and not hooks.dialled


@pytest.mark.parametrize("host", ["evil.example", f"{NAME}:81", "127.0.0.1", f"{NAME}.evil.example"])
async def test_a_host_that_is_not_the_connections_is_refused(host):
    async with through(echo) as (client, hooks):
        status, _, body = await client.ask(a_get(host=host))
    assert status == 403 and not hooks.dialled and json.loads(body)["error"]["rule"] == "name differs"


@pytest.mark.parametrize("host", [NAME.upper(), f"{NAME}:80", f"{NAME}."])
async def test_other_ways_to_write_the_same_host(host):
    async with through(echo) as (client, _):
        status, _, body = await client.ask(a_get(host=host))
    assert status == 200 and f"Host: {NAME}\r\n".encode() in body


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"\x16\x03\x01nonsense\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        b"GET http://api.example.com/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET https://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
    ],
)
async def test_what_is_no_request_here_is_a_400(request_bytes):
    async with through(echo) as (client, hooks):
        status, _, body = await client.ask(request_bytes)
        assert await client.reader.read() == b""
    assert status == 400 and json.loads(body)["error"]["code"] == "bad_request"
    assert hooks.records[0].verdict == "denied" and not hooks.dialled


async def test_the_proxy_port_takes_absolute_forms_and_hands_connect_on():
    tunnels = []
    async with through(echo, site=None, tunnels=tunnels) as (client, _hooks):
        body = (await client.ask(f"GET http://{NAME}/a HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()))[2]
        assert body.startswith(b"GET /a HTTP/1.1\r\n")
        await client.say(b"CONNECT other.example:8443 HTTP/1.1\r\nHost: other.example:8443\r\n\r\nhello")
        assert await client.reader.read() == b""
    assert tunnels == [Tunnel("other.example", 8443, b"hello")]


async def test_the_proxy_port_changes_sites_and_keeps_no_old_connection():
    hooks = PeerHooks()
    async with a_site(echo) as other, through(echo, hooks, site=None) as (client, _):
        hooks.sites["b.example"] = other
        for host in (NAME, "b.example", NAME):
            assert (await client.ask(f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()))[0] == 200
    assert [host for host, _ in hooks.dialled] == [NAME, "b.example", NAME]


async def test_an_origin_form_on_the_proxy_port_is_refused():
    async with through(echo, site=None) as (client, _):
        assert (await client.ask(a_get()))[0] == 400


async def test_a_site_that_nobody_reaches_is_a_502():
    async with through(echo, site=Site("gone.example", 80)) as (client, hooks):
        status, _, body = await client.ask(a_get(host="gone.example"))
    assert status == 502 and "nobody there" in json.loads(body)["error"]["message"]
    assert hooks.records[0].verdict == "failed"


async def test_bodies_of_all_framings_go_both_ways():
    async with through(echo) as (client, _):
        body = (await client.ask(a_post(b"z" * 700_000)))[2]
        assert body.endswith(b"z" * 700_000)
        chunked = f"POST / HTTP/1.1\r\nHost: {NAME}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX: y\r\n\r\n"
        assert (await client.ask(chunked.encode()))[2].endswith(b"abcd")


async def test_a_chunked_answer_and_its_trailers():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
    async with through(answering(chunked)) as (client, hooks):
        assert [(await client.ask(a_get()))[2] for _ in range(2)] == [b"abcde"] * 2
    assert len(hooks.dialled) == 1


async def test_an_answer_that_ends_with_its_connection():
    async def handler(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        await writer.drain()

    async with through(handler) as (client, hooks):
        _status, head, body = await client.ask(a_get())
    assert body == b"until the end" and b"connection: close" in head.lower() and hooks.records[0].verdict == "allowed"


async def test_a_client_of_http_1_0_gets_no_chunks():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with through(answering(chunked)) as (client, _):
        _status, head, body = await client.ask(f"GET / HTTP/1.0\r\nHost: {NAME}\r\n\r\n".encode())
    assert body == b"abc" and b"chunked" not in head.lower()


async def test_what_follows_connection_close_is_ignored():
    async with through(echo) as (client, hooks):
        await client.say(a_get("/", "Connection: close") + a_get("/second"))
        assert (await client.answer())[0] == 200
        assert await client.reader.read() == b""
    assert len(hooks.records) == 1


async def test_expect_continue_is_between_client_and_site():
    async def handler(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(4)
        writer.write(ok(body))
        await writer.drain()

    async with through(handler) as (client, _):
        head = f"POST / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n".encode()
        assert (await client.ask(head, body_too=False))[0] == 100
        assert (await client.ask(b"body"))[2] == b"body"


async def test_head_and_204_have_no_body():
    async with through(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"HTTP/1.1 204 None\r\n\r\n")) as (
        c,
        _,
    ):
        assert (await c.ask(a_get().replace(b"GET", b"HEAD"), body_too=False))[0] == 200
        assert (await c.ask(a_get(), body_too=False))[0] == 204
        assert (await c.ask(a_get(), body_too=False))[0] == 204


async def test_a_site_that_answers_early_and_reads_no_more():
    async def handler(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with through(handler) as (client, hooks):
        head = f"POST / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 1000000000\r\n\r\n".encode()
        status, _, body = await client.ask(head + b"x" * 1000)
        assert (status, body) == (413, b"big")
        assert await client.reader.read() == b""
    assert hooks.records[0].status == 413


async def test_a_response_that_smuggles_a_second_one():
    async def handler(reader, writer):
        await read_request(reader)
        writer.write(ok(b"one") + ok(b"forged"))
        await read_request(reader)

    async with through(handler) as (client, hooks):
        assert (await client.ask(a_get()))[2] == b"one"
        hooks.denied.add("/next")
        assert (await client.ask(a_get("/next")))[0] == 403


async def test_bytes_that_a_resting_site_says_are_nobodys():
    said = asyncio.Event()

    async def handler(reader, writer):
        while (await read_request(reader))[0]:
            writer.write(ok(b"true"))
            await writer.drain()
            if not said.is_set():
                writer.write(ok(b"forged"))
                await writer.drain()
                said.set()

    async with through(handler) as (client, _):
        assert (await client.ask(a_get()))[2] == b"true"
        await said.wait()
        assert (await client.ask(a_get()))[2] == b"true"


async def test_a_resting_connection_that_has_ended_is_replaced():
    ended = asyncio.Event()

    async def handler(reader, writer):
        if (await read_request(reader))[0]:
            writer.write(ok(b"once"))
            await writer.drain()
        writer.close()
        ended.set()

    async with through(handler) as (client, hooks):
        for _ in range(3):
            ended.clear()
            assert (await client.ask(a_get()))[2] == b"once"
            await ended.wait()
    assert len(hooks.dialled) == 3


async def test_a_site_that_ends_without_an_answer_is_a_502_and_in_the_middle_an_end():
    async def nothing(reader, writer):
        await reader.readuntil(b"\r\n\r\n")

    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    async with through(nothing) as (client, hooks):
        assert (await client.ask(a_get()))[0] == 502
    async with through(half) as (client, hooks):
        await client.say(a_get())
        assert (await client.reader.read()).endswith(b"half")
    assert (hooks.records[0].verdict, hooks.records[0].status) == ("failed", 200)


@pytest.mark.parametrize(
    "answer",
    [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"x" * 70_000,
     b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"],
)  # fmt: skip
async def test_an_answer_that_is_none_is_a_502(answer):
    async with through(answering(answer)) as (client, hooks):
        assert (await client.ask(a_get()))[0] == 502
    assert hooks.records[0].verdict == "failed"


async def test_a_client_that_goes_takes_the_upstream_with_it():
    asked, gone = asyncio.Event(), asyncio.Event()

    async def handler(reader, writer):
        await read_request(reader)
        asked.set()
        await reader.read()
        gone.set()

    async with through(handler) as (client, hooks):
        await client.say(a_get())
        await asked.wait()
        client.reset()
        await gone.wait()
    assert hooks.records[0].reason == "the client went away"


async def test_a_client_that_has_finished_sending_still_gets_its_answer(monkeypatch):
    go = asyncio.Event()

    async def handler(reader, writer):
        await read_request(reader)
        await go.wait()
        writer.write(ok(b"late"))
        await writer.drain()

    async with through(handler) as (client, _):
        await client.say(a_get())
        client.writer.write_eof()
        go.set()
        assert (await client.answer())[2] == b"late"


async def test_patience_with_a_half_closed_client_and_a_silent_site_has_an_end(monkeypatch):
    monkeypatch.setattr(exchange, "HALF_CLOSED_SECONDS", 0.01)

    async def handler(reader, writer):
        await read_request(reader)
        await reader.read()

    async with through(handler) as (client, _):
        await client.say(a_get())
        client.writer.write_eof()
        assert (await client.answer())[0] == 504


async def test_slow_heads_and_slow_sites_have_an_end(monkeypatch):
    monkeypatch.setattr(client_side, "HEAD_SECONDS", 0.01)
    monkeypatch.setattr(exchange, "ANSWER_SECONDS", 0.01)

    async def handler(reader, writer):
        await reader.read()

    async with through(handler) as (client, _):
        assert (await client.ask(b"GET / HTTP/1.1\r\nHos"))[0] == 408
    async with through(handler) as (client, _):
        assert (await client.ask(a_get()))[0] == 504


async def test_a_quiet_client_is_let_go(monkeypatch):
    monkeypatch.setattr(client_side, "IDLE_SECONDS", 0.01)
    async with through(echo) as (client, hooks):
        assert await client.reader.read() == b""
    assert not hooks.records


async def test_budgets_end_a_request():
    async with through(echo, PeerHooks(most_out=1000)) as (client, hooks):
        status, _, body = await client.ask(a_post(b"x" * 5000))
    assert status == 429 and json.loads(body)["error"]["limit"] == "bytes_out" and hooks.records[0].verdict == "limit"
    async with through(answering(ok(b"y" * 100_000)), PeerHooks(most_in=1000)) as (client, hooks):
        await client.say(a_get())
        await client.reader.read()
    assert hooks.records[0].verdict == "limit"


async def test_a_websocket_becomes_raw_bytes_both_ways():
    async def handler(reader, writer):
        head, _ = await read_request(reader)
        assert b"Upgrade: websocket" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi")
        writer.write(await reader.readexactly(5))
        await reader.read()
        writer.write(b"bye")

    async with through(handler) as (client, hooks):
        await client.say(a_get("/", "Upgrade: websocket", "Connection: Upgrade") + b"ab\x00\xffc")
        assert (await client.answer(False))[0] == 101
        assert await client.reader.readexactly(4) == b"\x81\x02hi"
        assert await client.reader.readexactly(5) == b"ab\x00\xffc"
        client.writer.write_eof()
        assert await client.reader.read() == b"bye"
    assert hooks.records[0].status == 101 and hooks.records[0].verdict == "allowed"


async def test_other_upgrades_are_not_handed_on_and_a_refused_one_is_a_request_like_others():
    async with through(echo) as (client, hooks):
        assert b"h2c" not in (await client.ask(a_get("/", "Upgrade: h2c", "Connection: Upgrade")))[2]
        assert (await client.ask(a_get("/", "Upgrade: websocket", "Connection: Upgrade")))[0] == 200
        assert (await client.ask(a_get("/third")))[0] == 200
    assert len(hooks.records) == 3


async def test_a_secret_never_goes_over_plain_http():
    one = a_secret()
    async with through(echo, PeerHooks(given=[one])) as (client, hooks):
        status, _, body = await client.ask(a_get("/", f"Authorization: Bearer {one.placeholder}"))
    assert status == 403 and json.loads(body)["error"]["code"] == "secret_misused" and not hooks.dialled
    (event,) = hooks.events
    assert (event["secret"], event["what"]) == ("TOKEN", "misused") and VALUE not in repr((event, hooks.records))


async def test_a_site_that_never_reads_holds_a_request_only_for_so_long(monkeypatch):
    monkeypatch.setattr(exchange, "ANSWER_SECONDS", 0.05)
    ended = asyncio.Event()

    async def handler(reader, writer):
        await ended.wait()

    async with through(handler) as (client, hooks):
        head = f"POST / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 100000000\r\n\r\n".encode()
        client.writer.write(head + b"x" * 20_000_000)
        await hooks.recorded.wait()
        ended.set()
    assert hooks.records[0].status == 504 and hooks.records[0].sent_bytes < 20_000_000


async def test_a_client_that_goes_in_the_middle_of_a_body():
    async with through(echo) as (client, hooks):
        await client.say(a_post(b"x" * 1000)[:-1])
        client.reset()
        await hooks.recorded.wait()
    assert hooks.records[0].verdict in ("failed", "denied")
