"""A real node with real sandboxes, for the tests that need more than a node in miniature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.dns_server import DnsServer, dns_server
from tests.integration.door_guest import DoorProcess, StandInGuest, door_process, stand_in_guest
from tests.integration.node_harness import namespace_home


@pytest.fixture(scope="module")
def real_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """CLOCHE_HOME of this process and its children, with the namespace engine."""
    with namespace_home(tmp_path_factory.mktemp("node") / "home") as place:
        yield place


@pytest.fixture
def sandbox(real_home: Path) -> Iterator[Sandbox]:
    with Sandbox.create() as made:
        yield made


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with dns_server() as server:
        server.add("up.test", "127.0.0.1")
        yield server


@pytest.fixture
def guest() -> Iterator[StandInGuest]:
    with stand_in_guest() as guest:
        yield guest


@pytest.fixture
def door(dns: DnsServer) -> Iterator[DoorProcess]:
    with door_process(resolver=dns.address) as door:
        yield door
