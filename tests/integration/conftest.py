"""A real node with real sandboxes, for the tests that need more than a node in miniature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Node, Sandbox
from tests.integration.node_harness import SOURCE, end_node


@pytest.fixture(scope="module")
def real_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """CLOCHE_HOME of this process and its children, with the namespace engine."""
    place = tmp_path_factory.mktemp("node") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOCHE_HOME", str(place))
        patch.setenv("PYTHONPATH", str(SOURCE))
        patch.setenv("CLOCHE_ENGINE", "namespace")
        try:
            usable = {found["name"] for found in Node().doctor()["engines"] if found["usable"]}
            if "namespace" not in usable:
                pytest.skip("the namespace engine cannot run on this machine: see cloche doctor")
            yield place
            for info in Sandbox.list():
                Sandbox.from_id(info.id).remove()
        finally:
            end_node(place)


@pytest.fixture
def sandbox(real_home: Path) -> Iterator[Sandbox]:
    with Sandbox.create() as made:
        yield made
