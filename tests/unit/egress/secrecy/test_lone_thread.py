"""What hangs takes nobody along: neither the threads of the loop, nor the end of the process."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from cloche.egress.secrecy import lone_thread
from cloche.egress.secrecy.lone_thread import alone

pytestmark = pytest.mark.anyio


@pytest.fixture
def held():
    event = threading.Event()
    yield event
    event.set()


async def test_what_comes_back_comes_back():
    assert await alone(lambda: 7, 10) == 7
    with pytest.raises(KeyError):
        await alone(lambda: {}["x"], 10)


async def test_more_may_hang_than_the_loop_has_threads(held):
    hang = [alone(held.wait, 0.05) for _ in range(lone_thread.MAX_THREADS)]
    ended = await asyncio.gather(*hang, return_exceptions=True)
    assert {type(each) for each in ended} == {TimeoutError}
    assert await asyncio.to_thread(lambda: "as before") == "as before"
    with pytest.raises(TimeoutError):
        await alone(lambda: "one more", 10)
    held.set()
    assert await until_free() == "one more"


async def until_free() -> str:
    give_up = time.monotonic() + 30
    while True:
        try:
            return await alone(lambda: "one more", 10)
        except TimeoutError:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.01)


def test_a_loop_ends_while_it_hangs(held):
    async def ask() -> None:
        with pytest.raises(TimeoutError):
            await alone(held.wait, 0.01)

    asyncio.run(ask())
    assert not held.is_set()
