from __future__ import annotations

import asyncio
import contextlib

import pytest

from cloche.egress.hooks import LimitHit
from cloche.egress.tls import handshakes
from cloche.egress.tls.authority import Authority
from cloche.egress.tls.handshakes import MAX_HANDSHAKES, NEW_NAMES_AT_ONCE, Handshakes

pytestmark = pytest.mark.anyio


async def new_names(turns: Handshakes, count: int) -> None:
    for _ in range(count):
        async with turns.one(lambda: True):
            pass


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long somebody would have waited."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(handshakes.asyncio, "sleep", sleep)
    return found


async def test_names_without_end_come_slowly_and_then_not_at_all(waits: list[float]) -> None:
    turns = Handshakes(lambda: 0.0)
    await new_names(turns, NEW_NAMES_AT_ONCE)
    assert waits == []
    with pytest.raises(LimitHit) as hit:
        await new_names(turns, 1000)
    assert hit.value.limit == "certificates"
    assert waits == sorted(waits) and len(waits) == 200 and waits[-1] == pytest.approx(10.0)


async def test_names_that_are_known_cost_nothing(waits: list[float]) -> None:
    turns = Handshakes(lambda: 0.0)
    await new_names(turns, NEW_NAMES_AT_ONCE)
    for _ in range(1000):
        async with turns.one(lambda: False):
            pass
    assert waits == []


async def test_so_many_go_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Handshakes(lambda: 0.0)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_HANDSHAKES):
            await stack.enter_async_context(turns.one(lambda: False))
        monkeypatch.setattr(handshakes, "LONGEST_WAIT_SECONDS", 0)
        with pytest.raises(LimitHit) as hit:
            await new_names(turns, 1)
        assert hit.value.limit == "handshakes"
    await new_names(turns, 1)


async def test_who_gives_up_leaves_room() -> None:
    turns = Handshakes(lambda: 0.0)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_HANDSHAKES):
            await stack.enter_async_context(turns.one(lambda: False))
        task = asyncio.ensure_future(new_names(turns, 1))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    for _ in range(MAX_HANDSHAKES):
        await new_names(turns, 1)


def test_an_authority_knows_what_it_has_signed() -> None:
    authority = Authority.new()
    assert not authority.is_known("a.test")
    authority.context("a.test")
    assert authority.is_known("a.test") and not authority.is_known("b.test")
