"""What "auto" means to a node, and what doctor says of its engines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloche.engines import registry
from cloche.engines.base import Capabilities, Check
from cloche.model.errors import InvalidError, UnavailableError
from cloche.noderun.engines import NodeEngines


class Odd:
    """An engine whose requirement may be met later."""

    def __init__(self, name: str, isolation: str, missing: bool) -> None:
        self.name, self.missing, self.asked = name, missing, 0
        self._isolation = isolation

    async def check(self) -> list[Check]:
        self.asked += 1
        status = "missing" if self.missing else "ok"
        return [Check(id="thing", status=status, summary="a thing", remedy="get it", required=True)]  # type: ignore[arg-type]

    async def capabilities(self) -> Capabilities:
        return Capabilities(isolation=self._isolation)  # type: ignore[arg-type]


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Odd]:
    made = {"strong": Odd("strong", "vm", True), "weak": Odd("weak", "namespace", False)}
    monkeypatch.setattr(registry, "names", lambda: [*made, "broken", "fake"])

    def build(name: str, home: Path) -> Odd:
        if name == "broken":
            raise UnavailableError("engine 'broken' cannot be imported", remedy="reinstall it")
        return made[name]

    monkeypatch.setattr(registry, "build", build)
    made["fake"] = Odd("fake", "none", False)
    return made


def test_auto_is_the_strongest_that_works_and_looks_again(tmp_path: Path, engines: dict[str, Odd]) -> None:
    async def scene() -> None:
        node = NodeEngines(tmp_path)
        assert (await node.choose("auto", None)).name == "weak"
        with pytest.raises(UnavailableError, match="a thing") as refused:
            await node.choose("auto", "vm")
        assert refused.value.remedy == "get it"
        engines["strong"].missing = False
        assert (await node.choose("auto", None)).name == "strong"
        asked = engines["weak"].asked
        await node.choose("auto", None)
        assert engines["weak"].asked == asked, "what worked is not probed for every sandbox"

    asyncio.run(scene())


def test_a_default_answers_for_auto_but_not_for_an_isolation(tmp_path: Path, engines: dict[str, Odd]) -> None:
    async def scene() -> None:
        node = NodeEngines(tmp_path, "fake")
        assert (await node.choose("auto", None)).name == "fake"
        assert (await node.choose("auto", "namespace")).name == "weak"
        assert (await node.choose("weak", None)).name == "weak"

    asyncio.run(scene())


def test_an_unknown_engine_is_invalid(tmp_path: Path, engines: dict[str, Odd]) -> None:
    with pytest.raises(InvalidError) as refused:
        NodeEngines(tmp_path).get("magic")
    assert refused.value.details == {"field": "engine"}


def test_doctor_names_what_cannot_be_imported(tmp_path: Path, engines: dict[str, Odd]) -> None:
    reports = {report.name: report for report in asyncio.run(NodeEngines(tmp_path).doctor())}
    assert set(reports) == {"strong", "weak", "broken"}
    assert [name for name, report in reports.items() if report.usable] == ["weak"]
    assert reports["broken"].checks[0].remedy == "reinstall it"
