"""Hosts written so that the rules read one and the network another, by each way that code has."""

from __future__ import annotations

import pytest

from tests.integration.dns_server import DnsServer
from tests.integration.door_fixtures import allowing
from tests.integration.door_guest import DoorProcess, StandInGuest
from tests.integration.door_world import Upstream

#: each is this machine, a name that no rule has, or nothing at all
HOSTS = [
    "127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "127.0.0.1.",
    "0", "0.0.0.0", "[::1]", "::1", "0:0:0:0:0:0:0:1", "::", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[fe80::1%eth0]", "[::1%25lo]", "[::1%lo]",
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "localhost.localdomain", "ip6-localhost",
    "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1",
    "up.test\x00.evil.test", "up.test%00.evil.test", "up.test\\.evil.test", "up.test/.evil.test", "up.test#.evil.test",
    "up.test@127.0.0.1", "up.test:80@127.0.0.1", "up..test", ".up.test", "up.test..", "up_test", "xup.test",
    "up.test.evil.test", "u\u0440.test", "xn--p-0tb.test", "up\u200b.test2", "*.test", "*", "", " up.test", "up.test ",
    "up.test\r\nHost: evil.test", "up.test,evil.test", "169.254.169.254", "metadata", "198.18.0.1", "up.sandbox",
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_name_is_allowed(dns: DnsServer, guest: StandInGuest, server: Upstream, door: DoorProcess) -> None:
    """It leads to this machine, as another does that is not."""
    dns.add("evil.test", "127.0.0.1")
    door.attach(guest, allowing(server))


def refused(guest: StandInGuest, host: str, port: int, via: str) -> None:
    if via in ("redirect", "socks"):
        stream = guest.connect(host, port, via)
        if via == "redirect":
            stream.socket.sendall(b"\0")
        if host == "198.18.0.1":
            guest.say(op="named", id=guest.hear()["id"], name=None)
        assert stream.answer()["ok"] is False
        return
    stream = guest.proxy()
    lines = {
        "connect": f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n",
        "absolute": f"GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n",
        "other host": f"GET http://up.test:{port}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    }
    answer = stream.ask(lines[via].encode())
    assert answer.startswith(b"HTTP/1.1 4"), answer


@pytest.mark.parametrize("via", ["redirect", "socks", "connect", "absolute", "other host"])
def test_none_of_them_leads_to_the_server(
    door: DoorProcess, guest: StandInGuest, server: Upstream, dns: DnsServer, via: str
) -> None:
    for host in HOSTS:
        # no head names nothing, and an empty Host says nothing against the target
        if not host and via in ("redirect", "socks", "other host"):
            continue
        refused(guest, host, server.port, via)
    assert server.count == 0
    assert {name for name, _ in dns.asked} <= {"up.test"}


def test_nor_can_the_resolver_be_made_to_ask(door: DoorProcess, guest: StandInGuest, dns: DnsServer) -> None:
    for host in HOSTS:
        if len(host) < 250:
            assert guest.resolve(host) == "no", host
    assert dns.asked == []


@pytest.mark.parametrize("host", ["up.test", "UP.TEST", "up.test.", "\uff55\uff50.test", "Up\u3002tEst"])
def test_other_ways_to_write_the_allowed_one(
    door: DoorProcess, guest: StandInGuest, server: Upstream, host: str
) -> None:
    stream = guest.connect(host, server.port)
    stream.socket.sendall(b"\0")
    assert stream.answer() == {"ok": True}
    assert stream.ask(b"x") == b"\0x"
