"""TLS hellos that want to be read in two ways, on the whole door."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.integration.door_fixtures import allowing
from tests.integration.door_guest import DoorProcess, GuestStream, StandInGuest
from tests.integration.door_world import Upstream

SNI, ECH, OLD_ESNI = 0, 0xFE0D, 0xFFCE


def hello(name: str | None) -> bytes:
    """The handshake message of a real client's hello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()[5:]


def with_extensions(message: bytes, *more: tuple[int, bytes]) -> bytes:
    body = message[4:]
    at = 34
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    extensions = body[at + 2 :] + b"".join(struct.pack(">HH", kind, len(data)) + data for kind, data in more)
    body = body[:at] + struct.pack(">H", len(extensions)) + extensions
    return message[:1] + len(body).to_bytes(3, "big") + body


def named(*names: bytes) -> bytes:
    listed = b"".join(b"\0" + struct.pack(">H", len(name)) + name for name in names)
    return struct.pack(">H", len(listed)) + listed


def record(data: bytes, kind: int = 22) -> bytes:
    return struct.pack(">BHH", kind, 0x0301, len(data)) + data


def in_records(message: bytes, size: int) -> bytes:
    return b"".join(record(message[at : at + size]) for at in range(0, len(message), size))


GOOD, EVIL, NONE = hello("up.test"), hello("evil.test"), hello(None)
LIES: dict[str, bytes] = {
    "another name": record(EVIL),
    "no name": record(NONE),
    "two names": record(with_extensions(NONE, (SNI, named(b"up.test", b"evil.test")))),
    "two extensions": record(with_extensions(GOOD, (SNI, named(b"evil.test")))),
    "a null in it": record(with_extensions(NONE, (SNI, named(b"up.test\0.evil.test")))),
    "a name below": record(with_extensions(NONE, (SNI, named(b"evil.up.test")))),
    "an address": record(with_extensions(NONE, (SNI, named(b"127.0.0.1")))),
    "an empty name": record(with_extensions(NONE, (SNI, named(b"")))),
    "a wrong length": record(with_extensions(NONE, (SNI, b"\0\x20" + named(b"up.test")[2:]))),
    "encrypted": record(with_extensions(GOOD, (ECH, b"\0" * 60))),
    "encrypted, as before": record(with_extensions(GOOD, (OLD_ESNI, b"\0" * 60))),
    "another name in records of a byte": in_records(EVIL, 1),
    "a good one in records of a byte": in_records(GOOD, 1),
    "another name in records": in_records(EVIL, 40),
    "two hellos in a record": record(GOOD + EVIL),
    "an alert first": record(b"\1\0", 21) + record(EVIL),
    "an alert within": record(GOOD[:50]) + record(b"\1\0", 21) + record(GOOD[50:]),
    "an empty record": record(b"") + record(EVIL),
    "too large": in_records(with_extensions(GOOD, (21, b"\0" * 60_000)) + b"\0" * 9000, 16_000),
    "never complete": record(GOOD)[:-1],
    "early data before it": record(b"x", 23) + record(EVIL),
    "the old form": b"\x80\x2e\1\3\1\0\x15\0\0\0\x10" + b"\0" * 40,
    "datagrams": b"\x16\xfe\xfd" + b"\0" * 60,
    "blanks": b"\r\n" + record(EVIL),
}


@pytest.fixture
def server(swallower: Upstream) -> Upstream:
    return swallower


@pytest.fixture
def begin(guest: StandInGuest, server: Upstream, door: DoorProcess) -> Iterator[Callable[..., GuestStream]]:
    """Connects to the allowed name."""
    door.attach(guest, allowing(server, protocols=["tls", "http"]))
    yield lambda via="redirect": guest.connect("up.test", server.port, via)
    check_alive(door)


def check_alive(door: DoorProcess) -> None:
    assert door.process.poll() is None
    door.detach_all()


@pytest.mark.parametrize("tls", ["pass", "inspect"])
@pytest.mark.parametrize("kind", [20, 21, 23, 24])
@pytest.mark.parametrize("via", ["redirect", "socks"])
def test_another_record_in_front_makes_a_hello_no_raw_bytes(
    door: DoorProcess, guest: StandInGuest, server: Upstream, got: bytearray, via: str, kind: int, tls: str
) -> None:
    """Where any protocol is allowed: a server that passes over the record would see a name that nobody has checked."""
    door.attach(guest, allowing(server, tls=tls))
    stream = guest.connect("up.test", server.port, via)
    stream.socket.sendall(record(b"\1\0", kind) + record(EVIL))
    stream.socket.shutdown(socket.SHUT_WR)
    assert stream.answer() == {"ok": True}
    assert len(stream.rest()) < 100
    assert "before the hello" in door.event("egress_denied")["reason"]
    door.detach_all()
    assert got == b""


@pytest.mark.parametrize("via", ["redirect", "socks"])
@pytest.mark.parametrize("lie", LIES)
def test_lies(begin: Callable[..., GuestStream], got: bytearray, lie: str, via: str) -> None:
    stream = begin(via)
    if via == "socks":
        assert stream.answer() == {"ok": True}
    stream.socket.sendall(LIES[lie])
    stream.socket.shutdown(socket.SHUT_WR)
    said = stream.rest()
    assert len(said) < 500
    assert got == b""


def test_a_hello_in_pieces_arrives_as_it_was(begin: Callable[..., GuestStream], got: bytearray) -> None:
    """Each byte by itself, and split over records: carried once it is known."""
    data = in_records(GOOD, 100)
    stream = begin()
    for at in range(len(data)):
        stream.socket.sendall(data[at : at + 1])
    assert stream.answer() == {"ok": True}
    stream.socket.shutdown(socket.SHUT_WR)
    assert stream.rest() == b""
    assert bytes(got) == data
