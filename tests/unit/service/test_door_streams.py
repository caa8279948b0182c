"""Streams to guests that only the node can reach, as sockets."""

from __future__ import annotations

import asyncio

import pytest

from cloche.engines.fake.streams import pair
from cloche.model.egress import EgressPolicy
from cloche.model.errors import LimitHitError, NotFoundError
from cloche.service import door_streams
from cloche.service.door_streams import join

pytestmark = pytest.mark.anyio


async def test_a_socket_leads_to_the_guest(place):
    made = await place.create("box", egress=EgressPolicy())
    led = await place.services._egress_events.stream(made.id)
    led.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(led, b"GET /v1/health HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n")
    answer = b""
    while data := await loop.sock_recv(led, 65536):
        answer += data
    led.close()
    assert b"200" in answer.split(b"\r\n")[0]
    assert made.id.encode() in answer


async def test_nobody_who_is_not_attached_gets_one(place):
    made = await place.create("box")
    for sandbox_id in (made.id, "sb_unknown"):
        with pytest.raises(NotFoundError):
            await place.services._egress_events.stream(sandbox_id)


async def test_there_are_only_so_many(place, monkeypatch):
    monkeypatch.setattr(door_streams, "MAX_STREAMS", 2)
    made = await place.create("box", egress=EgressPolicy())
    led = [await place.services._egress_events.stream(made.id) for _ in range(2)]
    with pytest.raises(LimitHitError):
        await place.services._egress_events.stream(made.id)
    for each in led:
        each.close()


async def test_one_direction_ends_and_the_other_goes_on():
    (code, inside), (door, outside) = pair(), pair()
    joining = asyncio.ensure_future(join(inside, outside))
    await code.write(b"request")
    await code.write_eof()
    assert await door.read(100) == b"request"
    assert await door.read(100) == b""
    await door.write(b"answer")
    await door.write_eof()
    assert await code.read(100) == b"answer"
    await joining


async def test_who_does_not_read_is_waited_for():
    (code, inside), (door, outside) = pair(1024), pair(1024)
    joining = asyncio.ensure_future(join(inside, outside))
    writing = asyncio.ensure_future(code.write(b"x" * 100_000))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert not writing.done()
    taken = 0
    while taken < 100_000:
        taken += len(await door.read(65536))
    await writing
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)


async def test_one_that_breaks_ends_both():
    (code, inside), (door, outside) = pair(), pair()
    joining = asyncio.ensure_future(join(inside, outside))
    await door.close()
    await code.write(b"x")
    await joining
    with pytest.raises(ConnectionError):
        await code.write(b"y")
