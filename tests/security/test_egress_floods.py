"""One sandbox does as much as it can of everything: the door stays small, and its neighbour is served meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from cloche.egress.messages import SetPolicy
from cloche.model.egress import EgressPolicy
from tests.integration.door_fixtures import allowing, works
from tests.integration.door_guest import DoorProcess, GuestStream, StandInGuest
from tests.integration.door_world import Upstream

pytestmark = pytest.mark.usefixtures("neighbours")
MANY = 1100
#: of all that a sandbox holds open with what it has begun to say
MAX_GROWTH_KIB = 80_000


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """The test plays the guest, so it needs as many as the door."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def memory_kib(door: DoorProcess) -> int:
    with open(f"/proc/{door.process.pid}/status") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1])


def streams(guest: StandInGuest, count: int) -> Iterator[GuestStream]:
    """More than are parked, so they are asked for."""
    for number in range(count):
        if number % 100 == 0:
            guest.say(op="need", streams=100)
        yield guest.stream()


@pytest.mark.slow
@pytest.mark.parametrize(
    "begun",
    [b"", b"GET / HTTP/1.1\r\nX: ", b"\x16\x03\x01\x40\x00\x01\x00\xf0\x00" + b"\x03" * 9000, b"POST" + b"T" * 9000],
    ids=["nothing", "a head", "a hello", "a word"],
)
def test_connections_that_say_half_a_word(
    door: DoorProcess, guest: StandInGuest, other: StandInGuest, server: Upstream, begun: bytes
) -> None:
    works(guest, server)
    works(other, server)
    before = memory_kib(door)
    held = []
    for stream in streams(guest, MANY):
        stream.head(kind="connect", host="up.test", port=server.port, via="redirect")
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            stream.socket.sendall(begun)
        held.append(stream)
    works(other, server)
    assert memory_kib(door) - before < MAX_GROWTH_KIB


@pytest.mark.slow
def test_attempts_without_end_leave_a_short_log(
    door: DoorProcess, guest: StandInGuest, other: StandInGuest, server: Upstream
) -> None:
    """Thousands of names, by the resolver and by the proxy, each with a long path: the audit says so in few lines, and
    what the other sandbox did in between is in it."""
    count = 4000
    for first in range(0, count, 200):
        for number in range(first, first + 200):
            guest.say(op="resolve", id=number, name=f"n{number}.test")
        for _ in range(200):
            assert guest.hear()["verdict"] == "no"
    for number in range(200):
        stream = guest.proxy()
        stream.ask(b"GET http://m%d.test/%b HTTP/1.1\r\nHost: m%d.test\r\n\r\n" % (number, b"p" * 2000, number))
        stream.close()
    assert other.connect("seen.test", 1, "socks").answer()["code"] == "denied"
    works(other, server)
    door.detach_all()
    door.close()
    path = door.home / "audit" / "egress.jsonl"
    assert path.stat().st_size < 2 << 20
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) < count
    assert sum(1 + line.get("repeated", 0) for line in lines if line["sandbox_id"] == "sb_1") == count + 200
    assert "seen.test" in {line["host"] for line in lines if line["sandbox_id"] == "sb_2"}


def test_policies_that_change_while_code_connects(door: DoorProcess, guest: StandInGuest, server: Upstream) -> None:
    """Whatever is open when the last policy has come is what that allows: nothing."""
    over = threading.Event()

    def flap() -> None:
        for _ in range(100):
            for now in (allowing(server), EgressPolicy(), None, EgressPolicy(default="ask")):
                door.ask(SetPolicy, sandbox_id="sb_1", policy=now)
        door.ask(SetPolicy, sandbox_id="sb_1", policy=EgressPolicy())
        over.set()

    thread = threading.Thread(target=flap)
    thread.start()
    held = []
    while not over.is_set():
        held.append(guest.connect("up.test", server.port))
        # the door may have refused it already
        with contextlib.suppress(BrokenPipeError):
            held[-1].socket.sendall(b"x")
    thread.join()
    for stream in held:
        with contextlib.suppress(OSError):
            stream.socket.shutdown(socket.SHUT_WR)
        # to its end: nothing of it is open any more
        stream.rest()
        stream.close()
    assert guest.connect("up.test", server.port, "socks").answer()["code"] == "denied"


def test_nobody_is_left_behind(door: DoorProcess, guest: StandInGuest, server: Upstream) -> None:
    """Connections that code leaves in every state cost no descriptor afterwards."""
    works(guest, server)
    door.ask(SetPolicy, sandbox_id="sb_1", policy=allowing(server))
    before = len(os.listdir(f"/proc/{door.process.pid}/fd"))
    for via in ("redirect", "socks") * 40:
        stream = guest.connect("up.test", server.port, via)
        stream.socket.sendall(b"\0" * (len(via) % 3) + b"GET / HTTP/1.1\r\n")
        stream.close()
    for _ in range(40):
        guest.proxy().close()
    works(guest, server)
    door.detach_all()
    assert len(os.listdir(f"/proc/{door.process.pid}/fd")) <= before
