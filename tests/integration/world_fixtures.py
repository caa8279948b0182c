"""A world outside, and a node of the namespace engine with a data directory that knows it, for the tests of a module;
`telling`: a sandbox there whose kernel tells of refused packets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.egress_world import World, egress_world
from tests.integration.guest_harness import Guest
from tests.integration.node_harness import namespace_home


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with egress_world() as made:
        yield made


@pytest.fixture(scope="module")
def home(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with namespace_home(tmp_path_factory.mktemp("world") / "home") as place:
        yield place


@pytest.fixture
def telling(home: Path, world: World) -> Iterator[Sandbox]:
    with Sandbox.create(net=world.net) as made:
        if not inside(home, made).get("/v1/health")["tells_refused"]:
            pytest.skip("this kernel does not tell of refused packets")
        yield made


def inside(home: Path, box: Sandbox) -> Guest:
    return Guest(home / "run" / box.id / "guest.sock")
