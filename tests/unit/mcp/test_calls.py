"""Calls end properly, progress is bounded, and no failure is more than an answer."""

import asyncio

import anyio
import pytest

from cloche.mcp import apart, narration, server
from cloche.mcp.sandboxes import Sandboxes
from cloche.mcp.settings import Settings
from cloche.mcp.tools.table import BY_NAME
from cloche.mcp.tools.tool import Call


def test_a_cancelled_call_may_finish_what_it_must_do():
    told = []

    async def work():
        told.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            told.append("ended")

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(apart.run, work())
            while not told:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

    anyio.run(main)
    assert told == ["begun", "ended"]


def test_work_that_fails_while_it_is_cancelled_fails_quietly():
    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("late")

    async def main():
        with anyio.move_on_after(0):
            await apart.run(work())

    anyio.run(main)


def test_results_and_errors_come_through():
    async def work(value):
        if isinstance(value, Exception):
            raise value
        return value

    assert anyio.run(apart.run, work(5)) == 5
    with pytest.raises(ValueError, match="x"):
        anyio.run(apart.run, work(ValueError("x")))


def test_progress_is_told_with_the_newest_output():
    told = []

    async def report(progress, total, message):
        told.append((total, message))
        heard.set()

    async def main():
        async with narration.narrated(report, 30.0) as tell:
            tell(b"x" * 100_000 + b"\x1b[1mend")
            await heard.wait()

    heard = anyio.Event()
    anyio.run(main)
    total, message = told[0]
    assert total == 30.0
    assert message.endswith("xend")
    assert len(message) <= narration.MAX_MESSAGE_BYTES


def test_nobody_listens():
    async def main():
        async with narration.narrated(None, 1) as tell:
            tell(b"x")

    anyio.run(main)


def test_narration_ends_although_news_and_end_come_together():
    async def report(progress, total, message):
        pass

    async def main():
        for _ in range(100):
            async with narration.narrated(report, None) as tell:
                await asyncio.sleep(0)
                tell(b"x")

    anyio.run(main)


def test_a_tool_that_breaks_is_an_answer(monkeypatch):
    async def broken(call, given):
        raise RuntimeError("broken")

    monkeypatch.setitem(BY_NAME, "list_sandboxes", _with(BY_NAME["list_sandboxes"], broken))
    told = asyncio.run(server.called(Call(Sandboxes(Settings())), "list_sandboxes", {}))
    assert told.is_error
    assert told.structured_content["code"] == "internal"


@pytest.mark.parametrize("name", ["", "x" * 100_000, "\ud83d", "no such"])
def test_an_unknown_tool_is_an_answer(name):
    told = asyncio.run(server.called(Call(Sandboxes(Settings())), name, {}))
    told.model_dump_json()
    assert told.structured_content["code"] == "not_found"
    assert "execute_python_code" in told.structured_content["remedy"]


def _with(tool, run):
    import dataclasses

    return dataclasses.replace(tool, run=run)
