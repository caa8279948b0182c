"""What of requests waits in the door is said to the rest of it, byte by byte."""

from __future__ import annotations

import json

import pytest

from tests.egress_peers import PeerHooks, echo
from tests.unit.egress.http.test_flow import NAME, a_post, through

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio", {"use_uvloop": True}


async def test_a_head_is_held_until_it_is_decided():
    async with through(echo) as (client, hooks):
        await client.say(b"GET / HTTP/1.1\r\n")
        assert (await client.ask(f"Host: {NAME}\r\n\r\n".encode()))[0] == 200
    assert hooks.held[0] == 0 and max(hooks.held) >= 16 and hooks.held[-1] == 0


async def test_beyond_the_bound_the_answer_is_429_and_written_down():
    async with through(echo, PeerHooks(most_held=1000)) as (client, hooks):
        status, _, body = await client.ask(b"GET / HTTP/1.1\r\nX: " + b"x" * 2000)
        assert await client.reader.read() == b""
    assert status == 429 and json.loads(body)["error"]["limit"] == "held_bytes"
    (record,) = hooks.records
    assert (record.verdict, record.decision.rule) == ("limit", "budget held_bytes")


async def test_no_more_of_a_body_is_read_behind_its_head_than_a_little():
    async with through(echo) as (client, hooks):
        body = b"x" * 200_000
        assert (await client.ask(a_post(body)))[2].endswith(body)
    assert max(hooks.held) <= 16 << 10
