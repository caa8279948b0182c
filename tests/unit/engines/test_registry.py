"""The choice of an engine: strongest first, exact isolation, never the fake, never silently something else."""

import importlib.metadata
from pathlib import Path

import pytest

from cloche.engines import registry
from cloche.engines.base import Check
from cloche.engines.fake import FakeEngine
from cloche.engines.registry import Candidate, choose
from cloche.model.errors import UnavailableError

LACKS = Check(id="x", status="missing", summary="no x here", remedy="install x", required=True)
WISH = Check(id="y", status="missing", summary="no y here", remedy="install y")
FAKE = Candidate(name="fake", isolation="none")
NAMESPACE = Candidate(name="namespace", isolation="namespace", checks=[WISH])
DOCKER = Candidate(name="docker", isolation="container")
VM = Candidate(name="vm", isolation="vm")
EMULATED_VM = Candidate(name="vm", isolation="vm", emulated=True)
BROKEN_VM = Candidate(name="vm", isolation="vm", checks=[LACKS])


@pytest.mark.parametrize(
    ("engines", "engine", "isolation", "name"),
    [
        ([FAKE, DOCKER, NAMESPACE, VM], "auto", None, "vm"),
        ([FAKE, DOCKER, NAMESPACE], "auto", None, "namespace"),
        ([NAMESPACE, BROKEN_VM], "auto", None, "namespace"),
        ([NAMESPACE, VM], "auto", "namespace", "namespace"),
        ([NAMESPACE, VM], "namespace", None, "namespace"),
        ([FAKE], "fake", None, "fake"),
        ([FAKE], "fake", "none", "fake"),
    ],
)
def test_choices(engines: list[Candidate], engine: str, isolation, name: str) -> None:
    assert choose(engines, engine, isolation) == name


@pytest.mark.parametrize(
    ("engines", "engine", "isolation", "remedy"),
    [
        ([FAKE], "auto", None, "cloche doctor"),
        ([FAKE], "auto", "none", "cloche doctor"),
        ([NAMESPACE], "auto", "vm", "cloche doctor"),
        ([NAMESPACE, BROKEN_VM], "auto", "vm", "install x"),
        ([NAMESPACE, BROKEN_VM], "vm", None, "install x"),
        ([NAMESPACE, VM], "namespace", "vm", "--engine auto --isolation vm"),
        ([NAMESPACE], "gvisor", None, "one of: auto, namespace"),
        ([], "auto", None, "cloche doctor"),
    ],
)
def test_refusals_say_what_would_help(engines: list[Candidate], engine: str, isolation, remedy: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        choose(engines, engine, isolation)
    assert caught.value.remedy == remedy


async def _survey(home: Path) -> list[Candidate]:
    return await registry.survey([FakeEngine(home)])


@pytest.mark.anyio
async def test_survey_asks_the_engine(tmp_path: Path) -> None:
    (found,) = await _survey(tmp_path)
    assert (found.name, found.isolation, found.missing()) == ("fake", "none", [])


def test_engines_of_other_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    points = [
        importlib.metadata.EntryPoint(name, "cloche.engines.fake:FakeEngine", registry.ENTRY_POINTS)
        for name in ("other", "namespace")
    ]
    points.append(importlib.metadata.EntryPoint("broken", "no_such_module:Engine", registry.ENTRY_POINTS))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points if group == "cloche.engines" else [])
    assert registry.names() == ["vm", "namespace", "fake", "broken", "other"]
    assert isinstance(registry.build("other", tmp_path), FakeEngine)
    with pytest.raises(UnavailableError):
        registry.load("broken")
    with pytest.raises(UnavailableError):
        registry.load("nothing")


def test_an_emulated_processor_is_used_only_by_name() -> None:
    assert choose([NAMESPACE, EMULATED_VM]) == "namespace"
    assert choose([NAMESPACE, EMULATED_VM], "vm") == "vm"
    with pytest.raises(UnavailableError) as caught:
        choose([NAMESPACE, EMULATED_VM], isolation="vm")
    assert caught.value.remedy == "--engine vm"
