"""Thousands of beginnings: what one sandbox has begun to say and not said to the end is counted, over all of it."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections.abc import Iterable

import pytest

from cloche.egress.held import MAX_HELD_BYTES
from tests.integration.door_fixtures import allowing, works
from tests.integration.door_guest import DoorProcess, GuestStream, StandInGuest
from tests.integration.door_world import WAIT, Upstream

BEGUN = {
    "head": b"GET / HTTP/1.1\r\nX: " + b"x" * 60_000,
    "hello": b"\x16\x03\x01\x40\x00\x01\x00\xf0\x00" + b"\x03" * 16380 + (b"\x16\x03\x01\x40\x00" + b"\0" * 16384) * 2,
    "word": b"MADEUP /" + b"x" * 60_000,
    "blanks": b"\r\n" * 30_000,
}
MANY = 220
#: of a 429, and of the TLS alert internal_error
LIMIT = (b"egress_limit", b"\x15\x03\x03\x00\x02\x02\x50", b'"code":"limit"')


def begun(guest: StandInGuest, server: Upstream, data: bytes) -> list[GuestStream]:
    held = []
    for number in range(MANY):
        if number % 100 == 0:
            guest.say(op="need", streams=100)
        stream = guest.stream().head(kind="connect", host="up.test", port=server.port, via="redirect")
        with contextlib.suppress(ConnectionError):
            stream.socket.sendall(data)
        held.append(stream)
    return held


def refused_by_limit(streams: Iterable[GuestStream], count: int) -> int:
    """How many have been told so, as soon as there are that many, or all have ended."""
    said: dict[socket.socket, bytes] = {stream.socket: b"" for stream in streams}
    refused: set[socket.socket] = set()
    with selectors.DefaultSelector() as selector:
        for sock in said:
            selector.register(sock, selectors.EVENT_READ)
        while len(refused) < count and (ready := selector.select(WAIT)):
            for key, _ in ready:
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                try:
                    data = sock.recv(4096)
                except ConnectionError:
                    data = b""
                said[sock] += data
                if not data:
                    selector.unregister(sock)
                if any(sign in said[sock] for sign in LIMIT):
                    refused.add(sock)
    return len(refused)


@pytest.fixture(autouse=True)
def sandboxes(guest: StandInGuest, other: StandInGuest, server: Upstream, door: DoorProcess) -> None:
    door.attach(guest, allowing(server, protocols=["tls", "http"]))
    door.attach(other, allowing(server), sandbox_id="sb_2", name="other")


@pytest.mark.parametrize("kind", BEGUN)
def test_what_waits_is_counted_and_the_rest_refused(
    door: DoorProcess, guest: StandInGuest, other: StandInGuest, server: Upstream, kind: str
) -> None:
    works(other, server)
    streams = begun(guest, server, BEGUN[kind])
    least = MANY - MAX_HELD_BYTES // len(BEGUN[kind])
    assert least > 30
    assert refused_by_limit(streams, least) >= least
    event = door.event("egress_limit")
    assert event["limit"] == "held_bytes" and "8 MiB" in event["reason"]
    works(other, server)


@pytest.mark.parametrize("kind", BEGUN)
def test_what_has_gone_counts_no_more(guest: StandInGuest, server: Upstream, kind: str) -> None:
    """However it went: refused, reset in the middle, or closed. After each round there is room again."""
    least = MANY - MAX_HELD_BYTES // len(BEGUN[kind])
    for _ in range(3):
        streams = begun(guest, server, BEGUN[kind])
        assert refused_by_limit(streams, least) >= least
        for number, stream in enumerate(streams):
            if number % 2:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.socket.close()
        # the door meets so many ends one after the other
        assert any(has_room(guest, server) for _ in range(1000))


def has_room(guest: StandInGuest, server: Upstream) -> bool:
    stream = guest.connect("up.test", server.port)
    with contextlib.suppress(ConnectionError):
        stream.socket.sendall(BEGUN["head"])
        stream.socket.sendall(b"\r\nHost: other.test\r\n\r\n")
    heard = stream.rest()
    return heard != b"" and not any(sign in heard for sign in LIMIT)


def test_blanks_without_end_are_not_waited_for(door: DoorProcess, guest: StandInGuest, server: Upstream) -> None:
    stream = guest.connect("up.test", server.port)
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            stream.socket.sendall(b"\r\n" * 1000)
    stream.rest()
    assert "what it is" in door.event("egress_denied")["reason"]
