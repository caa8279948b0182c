"""A guest that is not ours: what it says costs its own sandbox at most, never the door, neighbours or the log."""

from __future__ import annotations

import base64
import json
import socket
import struct

import pytest

from tests.integration.door_fixtures import works
from tests.integration.door_guest import DoorProcess, GuestStream, StandInGuest
from tests.integration.door_world import Upstream

pytestmark = pytest.mark.usefixtures("neighbours")
DEEP = b"[" * 2000
VERY_DEEP = b'{"a":' * 10_000
ODD_TEXTS = ["\n{}", "\x1b]0;owned\x07", "\x1b[2J", "\u202eevil", "\u2028", "\x00", "a\r\nSet-Cookie: b", "é" * 200]
WHOLE_LINES = b'{"op":"need","streams":%d}\n'


def framed(head: bytes) -> bytes:
    return struct.pack(">I", len(head)) + head


def head(**fields: object) -> bytes:
    return framed(json.dumps({"kind": "connect", "host": "up.test", "port": 1, "via": "socks"} | fields).encode())


@pytest.mark.parametrize(
    "said",
    [
        framed(b'{"kind":"proxy","more":' + DEEP),
        framed(DEEP),
        framed(b'{"kind":"proxy","more":' + b"[" * 1500 + b"]" * 1500 + b"}"),
        framed(b'{"kind":"connect","host":"\\ud800","port":1,"via":"socks"}'),
        framed(b'{"kind":"connect","host":["up.test"],"port":1,"via":"socks"}'),
        head(port=1e400),
        head(port=65536),
        head(port=-1),
        head(port=True),
        head(port=10**300),
        head(pid=2**40),
        head(via="ingress"),
        head(kind="node"),
        head(process="x" * 5000),
        struct.pack(">i", -1),
    ],
)
def test_heads(door: DoorProcess, guest: StandInGuest, server: Upstream, said: bytes) -> None:
    for _ in range(3):
        stream = guest.stream()
        stream.socket.sendall(said)
        stream.socket.shutdown(socket.SHUT_WR)
        assert stream.rest() == b""
    works(guest, server)


@pytest.mark.parametrize(
    "said",
    [
        b'{"op":"need","streams":1,"more":' + VERY_DEEP + b"\n",
        b'{"op":"resolve","id":1,"name":' + b"[" * 30_000 + b"\n",
        b'{"op":"resolve","id":1,"name":"\\udfff"}\n',
        b'{"op":"need","streams":1e999}\n',
        b'{"op":"query","id":1,"message":"' + b"A" * 65_000 + b'"}\n',
        b'{"op":"named","id":1,"name":"x"}\n' * 2000,
        b'{"op":"attach"}\n',
        b'{"op":"need","op":"resolve","streams":1}\n',
    ],
)
def test_control_lines(
    door: DoorProcess, guest: StandInGuest, other: StandInGuest, server: Upstream, said: bytes
) -> None:
    guest.control().sendall(said)
    works(other, server)
    works(guest, server)


def test_it_wants_more_streams_than_there_are(door: DoorProcess, guest: StandInGuest, server: Upstream) -> None:
    guest.control().sendall(WHOLE_LINES % 2**60 + (WHOLE_LINES % 256) * 500)
    assert guest.resolve("up.test") == "yes"
    works(guest, server)
    assert guest.connections < 800


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_line_of_the_audit_stays_a_line(door: DoorProcess, guest: StandInGuest, text: str) -> None:
    """Whatever the guest says of process and host."""
    forged = '"}\n{"time":1,"sandbox_id":"sb_2","via":"proxy","verdict":"allowed","host":"bank.test"}\n'
    for host in (text, forged, "no.test"):
        assert guest.connect(host, 443, "socks", process=text + forged, pid=7).answer()["code"] == "denied"
    stream = guest.proxy()
    stream.socket.sendall(f"GET http://no.test/{text}{forged} HTTP/1.1\r\nHost: no.test\r\n\r\n".encode())
    assert b"HTTP/1.1 4" in stream.rest()[:12]
    door.detach_all()
    door.close()
    lines = (door.home / "audit" / "egress.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    decoded = [json.loads(line) for line in lines]
    assert {(line["sandbox_id"], line["verdict"]) for line in decoded} == {("sb_1", "denied")}
    assert all(byte >= 0x20 for line in lines for byte in line)


def test_it_answers_for_addresses_that_nobody_asked_about(
    door: DoorProcess, guest: StandInGuest, server: Upstream
) -> None:
    """The name that it says an address stands for is decided like any other."""
    for name in ("up.test", "127.0.0.1", "localhost", "other.sandbox", "no.test", None, "", "x" * 500):
        stream = guest.connect("198.18.0.1", server.port, "socks")
        asked = guest.hear()
        guest.say(op="named", id=asked["id"] + 1, name="up.test")
        guest.say(op="named", id=asked["id"], name=name)
        assert stream.answer()["ok"] is (name == "up.test")


def test_questions_without_end_do_not_hide_what_others_do(
    door: DoorProcess, guest: StandInGuest, other: StandInGuest
) -> None:
    """Each name is another event: those of a neighbour are told all the same."""
    for number in range(600):
        guest.say(op="resolve", id=number, name=f"n{number}.test")
    assert [guest.hear()["verdict"] for _ in range(600)] == ["no"] * 600
    assert other.resolve("seen.test") == "no"
    while door.event("egress_denied")["host"] != "seen.test":
        pass


def test_dns_messages_of_all_kinds(door: DoorProcess, guest: StandInGuest, server: Upstream) -> None:
    header = struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0)
    loop = header + b"\xc0\x0c\0\1\0\1"
    chain = header + b"".join(b"\x01a\xc0" + bytes([12 + 3 * place]) for place in range(60)) + b"\0\1\0\1"
    many = struct.pack(">HHHHHH", 1, 0x0100, 65535, 0, 0, 0) + b"\0\0\1\0\1" * 700
    opt = struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 1) + b"\1a\0\0\x10\0\1" + b"\0\0\x29\xff\xff\0\0\0\0\xff\xff"
    update = struct.pack(">HHHHHH", 1, 0x2800, 1, 0, 0, 0) + b"\1a\0\0\x06\0\1"
    for message in (loop, chain, many, opt, update, header, header[:5], b"\0" * 4096, b"\xff" * 4096):
        guest.say(op="query", id=5, message=base64.b64encode(message).decode())
    works(guest, server)


def test_the_stream_of_a_connection_is_used_once(door: DoorProcess, guest: StandInGuest, server: Upstream) -> None:
    """A second head behind the first one is bytes of the code, and no wish."""
    stream: GuestStream = guest.stream()
    stream.head(kind="connect", host="up.test", port=server.port, via="socks")
    assert stream.answer() == {"ok": True}
    second = head(host="no.test")
    assert stream.ask(second) == second
