from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cloche.egress.asks import MAX_OPEN, Asks, Outcome, Question
from cloche.egress.deciding.attempt import Attempt
from cloche.model.egress import Ask

HERE = Question(host="a.test", port=443, process="curl", attempt=Attempt(host="a.test", is_address=False, port=443))
SAME = Question(host="a.test", port=443, process="wget")
OTHER = Question(host="b.test", port=443)


def run(test: Callable[[Asks, list[Ask]], Awaitable[None]], timeout_seconds: float = 30.0) -> None:
    async def main() -> None:
        told: list[Ask] = []
        await test(Asks("sb_1", told.append, timeout_seconds), told)

    asyncio.run(main())


def begin(asks: Asks, question: Question) -> asyncio.Task[Outcome]:
    return asyncio.ensure_future(asks.ask(question))


async def settled() -> None:
    """Every task has come as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_same_question_is_asked_once() -> None:
    async def test(asks: Asks, told: list[Ask]) -> None:
        waiting = [begin(asks, HERE), begin(asks, SAME), begin(asks, OTHER)]
        await settled()
        assert [(ask.host, ask.process) for ask in told] == [("a.test", "curl"), ("b.test", "")]
        assert asks.answer(told[0].id, "once")
        assert asks.answer(told[1].id, "deny")
        assert await asyncio.gather(*waiting) == ["once", "once", "deny"]
        assert not asks.answer(told[0].id, "once")

    run(test)


def test_nobody_answers() -> None:
    async def test(asks: Asks, told: list[Ask]) -> None:
        assert await asks.ask(HERE) == "expired"
        assert not asks.answer(told[0].id, "once")

    run(test, timeout_seconds=0.0)


def test_always_is_remembered_until_the_policy_is_another() -> None:
    async def test(asks: Asks, told: list[Ask]) -> None:
        waiting = begin(asks, HERE)
        await settled()
        asks.answer(told[0].id, "always")
        assert await waiting == "always"
        assert await asks.ask(SAME) == "always"
        asks.review(lambda _: True)
        again = begin(asks, HERE)
        await settled()
        assert len(told) == 2
        again.cancel()

    run(test)


def test_once_is_not_remembered() -> None:
    async def test(asks: Asks, told: list[Ask]) -> None:
        for number in range(2):
            waiting = begin(asks, HERE)
            await settled()
            asks.answer(told[number].id, "once")
            assert await waiting == "once"

    run(test)


def test_a_new_policy_frees_what_it_decides_itself() -> None:
    async def test(asks: Asks, told: list[Ask]) -> None:
        here, other = begin(asks, HERE), begin(asks, OTHER)
        await settled()
        asks.review(lambda question: question.host == "b.test")
        assert await here == "again"
        assert not other.done()
        asks.answer(told[1].id, "once")
        assert await other == "once"

    run(test)


def test_too_many_are_refused_at_once() -> None:
    async def test(asks: Asks, told: list[Ask]) -> None:
        waiting = [begin(asks, Question(host=f"h{number}.test", port=1)) for number in range(MAX_OPEN)]
        await settled()
        assert await asks.ask(HERE) == "crowded"
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        freed = begin(asks, HERE)
        await settled()
        assert told[-1].host == "a.test"
        freed.cancel()

    run(test)


@pytest.mark.parametrize("leaves", [0, 1])
def test_one_that_gives_up_leaves_the_others_waiting(leaves: int) -> None:
    async def test(asks: Asks, told: list[Ask]) -> None:
        waiting = [begin(asks, HERE), begin(asks, SAME)]
        await settled()
        waiting[leaves].cancel()
        await settled()
        assert asks.answer(told[0].id, "once")
        assert await waiting[1 - leaves] == "once"

    run(test)
