"""Routes of set-up: what is an answer of its own, and what is a line of the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cloche.engines.base import Check, Progress
from cloche.model.errors import NoSpaceError, UnavailableError
from cloche.service.setup import EngineSetup
from tests.unit.api.harness import Served, error_of, serve

Scene = Callable[[Served], Awaitable[None]]
PATH = "/v1/engines/boxed/setup"


class Said:
    """In the place of the service."""

    def __init__(self, *said: Progress | Exception | None) -> None:
        self.said, self.asked = said, []

    async def run(self, name: str, options: Mapping[str, str]) -> AsyncIterator[Progress | None]:
        self.asked.append((name, options))
        for each in self.said:
            if isinstance(each, Exception):
                raise each
            yield each

    async def all(self) -> list[EngineSetup]:
        return [EngineSetup(name="boxed", usable=False, missing=[Check(id="x", status="missing", summary="s")])]


def play(home: Path, scene: Scene) -> None:
    async def scene_in_node() -> None:
        async with serve(home) as served, asyncio.timeout(60):
            await scene(served)

    uvloop.run(scene_in_node())


async def lines(node: Served, body: Any = None) -> list[dict[str, Any]]:
    status, answer = await node.ask("POST", PATH, body if body is not None else {})
    assert (status, node.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in answer.splitlines()]


STEP = Progress(step="package", summary="p", done=1, total=2, unit="bytes")
LINE = {"step": "package", "summary": "p", "done": 1, "total": 2, "unit": "bytes"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([STEP, None, STEP], [LINE, {"keepalive": True}, LINE, {"done": True}]),
        ([], [{"keepalive": True}, {"done": True}]),
        ([STEP, NoSpaceError("full")], [LINE, {"error": {"code": "no_space", "message": "full"}}]),
    ],
)
def test_lines(tmp_path: Path, said: list[Any], expected: list[Any]) -> None:
    async def scene(node: Served) -> None:
        node.services.setup = Said(*said)
        assert await lines(node, {"options": {"suite": "x"}}) == expected
        assert node.services.setup.asked == [("boxed", {"suite": "x"})]

    play(tmp_path, scene)


def test_a_crash_is_told_without_its_inside(tmp_path: Path) -> None:
    async def scene(node: Served) -> None:
        node.services.setup = Said(STEP, RuntimeError("a secret"))
        (_, last) = await lines(node)
        assert last["error"]["code"] == "internal" and "secret" not in str(last)

    play(tmp_path, scene)


def test_what_is_wrong_from_the_beginning_has_its_own_status(tmp_path: Path) -> None:
    async def scene(node: Served) -> None:
        node.services.setup = Said(UnavailableError("no"))
        assert error_of(await node.ask("POST", PATH, {}))[:2] == (501, "unavailable_here")
        for body in ({"options": {"A": "x"}}, {"options": []}, {"x": 1}, {"options": {"a": "x" * 5000}},
                     {"options": {"a" * 65: "x"}}, {"options": {chr(97 + n) * 3: "" for n in range(26)} | {
                         chr(97 + n) * 4: "" for n in range(26)}}):  # fmt: skip
            assert error_of(await node.ask("POST", PATH, body))[0] == 422

    play(tmp_path, scene)


def test_the_list(tmp_path: Path) -> None:
    async def scene(node: Served) -> None:
        node.services.setup = Said()
        status, body = await node.ask("GET", "/v1/engines")
        assert status == 200
        found = body if isinstance(body, dict) else json.loads(body)
        assert [each["name"] for each in found["engines"]] == ["boxed"]

    play(tmp_path, scene)
