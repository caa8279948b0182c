from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloche.egress.hooks import LimitHit
from cloche.egress.outward import resolve
from cloche.egress.outward.resolve import ResolveError, Resolver
from cloche.egress.outward.turns import Turns

pytestmark = pytest.mark.anyio


class Servers:
    """Answers when the test says so. `running`: names that are being looked up, and what ends each for good."""

    def __init__(self) -> None:
        self.running: dict[str, Callable[[], None]] = {}
        self.answers: dict[str, asyncio.Future[resolve.Found]] = {}
        self.count = 0

    async def look_up(self, name: str, over: Callable[[], None]) -> resolve.Found:
        self.count += 1
        self.running[name] = over
        self.answers[name] = asyncio.get_running_loop().create_future()
        return await self.answers[name]

    def answer(self, name: str, *addresses: str) -> None:
        if not self.answers[name].done():
            self.answers[name].set_result((list(addresses), 20.0))
        self.running.pop(name)()


async def begun(*work: Awaitable[object]) -> list[asyncio.Future[object]]:
    """All wait where they cannot go on."""
    tasks = [asyncio.ensure_future(one) for one in work]
    for _ in range(10):
        await asyncio.sleep(0)
    return tasks


async def test_a_sandbox_whose_names_hang_does_not_keep_another_from_looking_up() -> None:
    servers = Servers()
    resolver = Resolver(source=servers)
    hung = await begun(*(resolver.addresses(f"n{number}.test", "one") for number in range(200)))
    assert len(servers.running) == 8
    (asked,) = await begun(resolver.addresses("a.test", "two"))
    servers.answer("a.test", "192.0.2.1")
    assert await asked == ["192.0.2.1"]
    for task in hung:
        task.cancel()


async def test_a_name_that_one_waits_for_is_looked_up_for_another_at_once() -> None:
    """Otherwise the queue of the first would be everybody's who wants the same names."""
    servers = Servers()
    resolver = Resolver(source=servers)
    waiting = await begun(*(resolver.addresses(f"n{number}.test", "one") for number in range(8)))
    waiting += await begun(resolver.addresses("a.test", "one"))
    assert "a.test" not in servers.running
    (other,) = await begun(resolver.addresses("a.test", "two"))
    servers.answer("a.test", "192.0.2.1")
    assert await other == ["192.0.2.1"]
    # and who waited gets what is known by now, without another lookup
    count = servers.count
    servers.answer("n0.test")
    assert await waiting[8] == ["192.0.2.1"] and servers.count == count
    for task in waiting:
        task.cancel()


async def test_one_name_is_looked_up_once_for_all() -> None:
    servers = Servers()
    resolver = Resolver(source=servers)
    tasks = await begun(*(resolver.addresses("a.test", f"sb_{number % 3}") for number in range(30)))
    assert servers.count == 1
    servers.answer("a.test", "192.0.2.1")
    assert await asyncio.gather(*tasks) == [["192.0.2.1"]] * 30


async def test_a_lookup_that_nobody_waits_for_any_more_counts_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread in getaddrinfo goes on, so its turn does too."""
    monkeypatch.setattr(resolve, "TIMEOUT_SECONDS", 0)
    servers, turns = Servers(), Turns(of_one=1)
    resolver = Resolver(source=servers, turns=turns)
    (hung,) = await begun(resolver.addresses("a.test", "one"))
    with pytest.raises(ResolveError, match="no answer"):
        await hung
    assert turns.taken == 1 and turns.has_all("one")
    with pytest.raises(LimitHit) as hit:
        await resolver.addresses("b.test", "one")
    assert hit.value.limit == "lookups" and servers.count == 1
    servers.answer("a.test")
    assert turns.taken == 0


async def test_the_last_turns_are_for_who_has_none() -> None:
    turns = Turns(most=10, kept=4, of_one=8)
    first = await begun(*(turns.take("one") for _ in range(8)))
    assert sum(task.done() for task in first) == 6
    others = await begun(*(turns.take(f"sb_{number}") for number in range(5)))
    assert sum(task.done() for task in others) == 4 and turns.taken == 10
    # who has the fewest is next
    turns.give_back("one")
    await asyncio.sleep(0)
    assert others[4].done() and sum(task.done() for task in first) == 6
    for task in [*first, *others]:
        task.cancel()


@pytest.mark.parametrize("granted", [False, True])
async def test_who_stops_waiting_takes_nothing(granted: bool) -> None:
    turns = Turns(most=1, kept=0)
    await turns.take("one")
    (waiting,) = await begun(turns.take("two"))
    if granted:
        turns.give_back("one")
    waiting.cancel()
    await asyncio.wait([waiting])
    assert turns.taken == (0 if granted else 1)
    if not granted:
        turns.give_back("one")
    await turns.take("three")


async def test_the_machines_resolver_gives_its_turn_back() -> None:
    given_back: asyncio.Queue[str] = asyncio.Queue()

    class Watched(Turns):
        def give_back(self, owner: str) -> None:
            super().give_back(owner)
            given_back.put_nowait(owner)

    turns = Watched()
    assert set(await Resolver(turns=turns).addresses("localhost", "one")) & {"127.0.0.1", "::1"}
    assert await given_back.get() == "one" and turns.taken == 0


async def test_a_turn_comes_back_when_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", fails)
    turns = Turns()
    with pytest.raises(ResolveError, match="thread"):
        await Resolver(turns=turns).addresses("a.example", "one")
    assert turns.taken == 0
