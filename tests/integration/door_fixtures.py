"""What most tests of the door begin with: name servers, guests, a server, and a door process between them.

The `conftest.py` of each folder that tests the door takes the fixtures from here."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cloche.model.egress import EgressPolicy, EgressRule
from tests.integration.dns_server import DnsServer, dns_server
from tests.integration.door_guest import DoorProcess, StandInGuest, door_process, stand_in_guest
from tests.integration.door_world import Certificates, Upstream, certificates, echo, upstream


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    """It knows one name."""
    with dns_server() as server:
        server.add("up.test", "127.0.0.1")
        yield server


@pytest.fixture
def guest() -> Iterator[StandInGuest]:
    with stand_in_guest() as guest:
        yield guest


@pytest.fixture
def other() -> Iterator[StandInGuest]:
    with stand_in_guest() as guest:
        yield guest


@pytest.fixture
def server() -> Iterator[Upstream]:
    with upstream(echo) as server:
        yield server


@pytest.fixture
def got() -> bytearray:
    """What the swallower has read."""
    return bytearray()


@pytest.fixture
def swallower(got: bytearray) -> Iterator[Upstream]:
    """It says nothing."""

    def swallow(sock: socket.socket, _: Upstream) -> None:
        while data := sock.recv(65536):
            got.extend(data)

    with upstream(swallow) as server:
        yield server


@pytest.fixture
def door(dns: DnsServer) -> Iterator[DoorProcess]:
    with door_process(resolver=dns.address) as door:
        yield door


@pytest.fixture
def neighbours(guest: StandInGuest, other: StandInGuest, server: Upstream, door: DoorProcess) -> None:
    """Sandboxes sb_1 ("box") and sb_2 ("other"): both may reach the server."""
    door.attach(guest, allowing(server))
    door.attach(other, allowing(server), sandbox_id="sb_2", name="other")


@pytest.fixture(scope="module")
def authority() -> Iterator[Certificates]:
    with certificates() as found:
        yield found


def allowing(server: Upstream, **more: object) -> EgressPolicy:
    """up.test on this server's port, on loopback; `more` of the rule."""
    given = {"hosts": ["up.test"], "ports": [str(server.port)], "addresses": ["127.0.0.0/8"]} | more
    return EgressPolicy(rules=[EgressRule(**given)])  # type: ignore[arg-type]


def works(guest: StandInGuest, server: Upstream) -> None:
    """The guest reaches a server that echoes."""
    stream = guest.connect("up.test", server.port)
    stream.socket.sendall(b"x")
    assert stream.answer() == {"ok": True}
    assert stream.ask(b"y") == b"xy"
    stream.close()
