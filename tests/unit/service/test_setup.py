"""Set-up of engines as the service does it."""

from __future__ import annotations

import asyncio

import pytest

from cloche.engines.base import Check, Progress, Report
from cloche.engines.fake.engine import FakeEngine
from cloche.model.errors import InvalidError, UnavailableError
from cloche.service import setup
from cloche.service.setup import SetupService
from tests.unit.service.place import OneEngine

pytestmark = pytest.mark.anyio


class Boxed(FakeEngine):
    """Does in its set-up what the test says."""

    name = "boxed"

    def __init__(self, home) -> None:
        super().__init__(home)
        self.go_on, self.began, self.ended = asyncio.Event(), 0, 0
        self.fails: Exception | None = None

    async def setup(self, options: dict[str, str], report: Report) -> None:
        self.began += 1
        report(Progress(step="one", summary=options.get("word", "")))
        try:
            await self.go_on.wait()
            if self.fails:
                raise self.fails
            report(Progress(step="two", summary="", done=2, total=2))
        finally:
            self.ended += 1

    async def check(self) -> list[Check]:
        lack = Check(id="x", status="missing", summary="no kernel", required=True)
        return [lack, Check(id="y", status="degraded", summary="slow")]


@pytest.fixture
async def engine(tmp_path):
    return Boxed(tmp_path)


@pytest.fixture
async def service(engine):
    return SetupService(OneEngine(engine))


async def collect(service, **options):
    return [step.step async for step in service.run("boxed", options) if step]


async def test_progress_comes_in_order_and_ends(service, engine) -> None:
    said = service.run("boxed", {"word": "hello"})
    assert (await anext(said)).summary == "hello"
    engine.go_on.set()
    assert [step.step async for step in said] == ["two"]


async def test_what_fails_is_raised_behind_what_was_said(service, engine) -> None:
    engine.go_on.set()
    engine.fails = UnavailableError("no")
    said = service.run("boxed", {})
    assert (await anext(said)).step == "one"
    with pytest.raises(UnavailableError):
        await anext(said)


async def test_an_engine_that_is_not_there_or_needs_nothing(service, tmp_path) -> None:
    with pytest.raises(InvalidError):
        await anext(service.run("nothing", {}))
    plain = SetupService(OneEngine(FakeEngine(tmp_path)))
    with pytest.raises(UnavailableError):
        await anext(plain.run("fake", {}))
    assert await plain.all() == []


async def test_a_reader_that_leaves_ends_the_work(service, engine) -> None:
    said = service.run("boxed", {})
    await anext(said)
    await said.aclose()
    assert (engine.began, engine.ended) == (1, 1)
    engine.go_on.set()
    assert await collect(service) == ["one", "two"]


async def test_the_second_waits_for_the_first(service, engine) -> None:
    first = service.run("boxed", {})
    await anext(first)
    second = service.run("boxed", {})
    assert (await anext(second)).step == "wait"
    assert engine.began == 1
    engine.go_on.set()
    assert [step.step async for step in first] == ["two"]
    assert [step.step async for step in second] == ["one", "two"]


async def test_silence_is_told(service, monkeypatch) -> None:
    monkeypatch.setattr(setup, "QUIET_SECONDS", 0.01)
    said = service.run("boxed", {})
    assert (await anext(said)).step == "one"
    assert await anext(said) is None
    await said.aclose()


async def test_a_slow_reader_misses_progress_and_not_the_end(service, engine, monkeypatch) -> None:
    monkeypatch.setattr(setup, "MAX_WAITING", 1)
    engine.go_on.set()
    assert await collect(service) == ["one"]


async def test_what_an_engine_lacks_is_listed(service) -> None:
    (found,) = await service.all()
    assert (found.name, found.usable, [check.summary for check in found.missing]) == ("boxed", False, ["no kernel"])
