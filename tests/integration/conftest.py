"""A real node with real sandboxes, for the tests that need more than a node in miniature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.door_fixtures import authority, dns, door, got, guest, neighbours, other, server, swallower
from tests.integration.node_harness import namespace_home
from tests.integration.world_fixtures import home, telling, world

__all__ = [
    "authority", "dns", "door", "got", "guest", "home", "neighbours", "other", "server", "swallower", "telling",
    "world",
]  # fmt: skip


@pytest.fixture(scope="module")
def real_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """CLOCHE_HOME of this process and its children, with the namespace engine."""
    with namespace_home(tmp_path_factory.mktemp("node") / "home") as place:
        yield place


@pytest.fixture
def sandbox(real_home: Path) -> Iterator[Sandbox]:
    with Sandbox.create() as made:
        yield made
