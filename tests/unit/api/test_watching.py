"""Routes over all sandboxes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cloche.model.events import EventQuery
from tests.unit.api.harness import ID, Served, error_of, serve

Scene = Callable[[Served], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scene], None]:
    async def scene_in_node(scene: Scene) -> None:
        async with serve(tmp_path) as served, asyncio.timeout(60):
            await scene(served)

    return lambda scene: uvloop.run(scene_in_node(scene))


def test_events_are_lines(play: Any) -> None:
    async def scene(node: Served) -> None:
        status, body = await node.ask("GET", f"/v1/events?sandbox={ID}&kind=sandbox.created&kind=a&since=5&limit=7")
        assert (status, node.headers["content-type"]) == (200, "application/x-ndjson")
        assert [json.loads(line)["id"] for line in body.splitlines()] == ["ev_1", "ev_2"]
        query, how = node.services.watching.asked[0]
        assert query == EventQuery(since=5.0, kinds=frozenset({"sandbox.created", "a"}))
        assert how == {"sandbox": ID, "newest": 7, "follow": False}

    play(scene)


def test_followed_events_come_at_once_with_keepalives_and_end_with_the_client(play: Any) -> None:
    async def scene(node: Served) -> None:
        reader, writer = await asyncio.open_unix_connection(str(node.path))
        writer.write(b"GET /v1/events?follow=1 HTTP/1.1\r\nHost: node\r\n\r\n")
        await reader.readuntil(b'{"keepalive":true}\n')
        writer.transport.abort()
        await node.counter.until(0)

    play(scene)


def test_what_cannot_be_meant_is_refused_before_the_stream_begins(play: Any) -> None:
    async def scene(node: Served) -> None:
        assert error_of(await node.ask("GET", "/v1/events?sandbox=nobody"))[:2] == (404, "not_found")
        for wrong in ("limit=-1", "limit=x", "kind=A%1b", "follow=maybe", "since=-1", "other=1"):
            assert error_of(await node.ask("GET", f"/v1/events?{wrong}"))[0] == 422, wrong

    play(scene)


def test_stats_of_all(play: Any) -> None:
    async def scene(node: Served) -> None:
        status, body = await node.ask("GET", "/v1/stats")
        assert status == 200
        (use,) = body["sandboxes"]
        assert use["sandbox"]["id"] == ID
        assert use["stats"]["sent_bytes"] is None

    play(scene)
