"""This machine, its network and clouds' metadata are out of reach, also inside of IPv6 addresses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.egress.deciding import ranges

FORBIDDEN = [
    ("0.0.0.0", "address of this machine"),
    ("0.1.2.3", "address of this machine"),
    ("10.0.0.1", "private address"),
    ("100.64.0.1", "shared address of a provider"),
    ("100.100.100.200", "metadata service"),
    ("127.0.0.1", "loopback address"),
    ("127.255.255.254", "loopback address"),
    ("168.63.129.16", "metadata service"),
    ("169.254.169.254", "metadata service"),
    ("169.254.170.2", "metadata service"),
    ("169.254.0.1", "link-local address"),
    ("172.16.0.1", "private address"),
    ("172.31.255.255", "private address"),
    ("192.0.0.192", "metadata service"),
    ("192.0.0.8", "reserved address"),
    ("192.88.99.1", "reserved address"),
    ("192.168.1.1", "private address"),
    ("198.18.0.1", "address of the sandbox's own names"),
    ("198.19.255.255", "address of the sandbox's own names"),
    ("224.0.0.1", "multicast address"),
    ("239.255.255.250", "multicast address"),
    ("240.0.0.1", "reserved address"),
    ("255.255.255.255", "broadcast address"),
    ("::", "address of this machine"),
    ("::1", "loopback address"),
    ("fd00:ec2::254", "metadata service"),
    ("fd20:ce::254", "metadata service"),
    ("fc00::1", "private address"),
    ("fd12:3456::1", "private address"),
    ("fe80::1", "link-local address"),
    ("fec0::1", "private address"),
    ("ff02::1", "multicast address"),
    ("::127.0.0.1", "reserved address"),
    ("::ffff:10.0.0.1", "private address"),
    ("64:ff9b::10.0.0.1", "private address"),
    ("64:ff9b::a9fe:a9fe", "metadata service"),
    ("64:ff9b:1::1.1.1.1", "reserved address"),
    ("2002:7f00:1::", "loopback address"),
    ("2002:a9fe:a9fe::1", "metadata service"),
    ("2001:0:a00:1::", "private address"),
    ("2001:20::1", "reserved address"),
    ("100::1", "reserved address"),
    ("4000::1", "reserved address"),
    ("fe80::1%eth0", "address with a zone"),
    ("example.com", "no address"),
    ("", "no address"),
]

REACHABLE = [
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "198.17.0.1",
    "198.20.0.1",
    "223.255.255.255",
    "2606:4700::1111",
    "2001:db8::1",
    "64:ff9b::1.1.1.1",
    "2002:101:101::1",
    "2a00::1",
]


@pytest.mark.parametrize(("address", "reason"), FORBIDDEN)
def test_forbidden(address, reason):
    assert ranges.forbidden(address) == reason


@pytest.mark.parametrize("address", REACHABLE)
def test_reachable(address):
    assert ranges.forbidden(address) is None


def test_the_machine_itself_is_forbidden_under_each_of_its_addresses():
    own = {"203.0.113.7"}
    assert ranges.forbidden("203.0.113.7", own) == "address of this machine"
    assert ranges.forbidden("203.0.113.8", own) is None
    own.add("203.0.113.8")
    assert ranges.forbidden("203.0.113.8", own) == "address of this machine"


@given(st.ip_addresses(v=4))
def test_no_public_address_is_lost_and_no_other_is_let_through(address):
    documented = [ipaddress.ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
    if any(address in network for network in documented):
        assert ranges.forbidden(str(address)) is None
    elif not address.is_global or address.is_multicast:
        assert ranges.forbidden(str(address)) is not None


@given(st.ip_addresses(v=4))
def test_an_address_is_as_forbidden_within_another(address):
    reason = ranges.forbidden(str(address))
    number = int(address)
    for shell in (
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        str(ipaddress.IPv6Address((0x2002 << 112) | number << 80)),
    ):
        assert ranges.forbidden(shell) == reason


@given(st.ip_addresses(v=6))
def test_no_private_ipv6_address_is_let_through(address):
    if ranges.forbidden(str(address)) is None:
        assert any(address in ipaddress.ip_network(text) for text in ("2000::/3", "64:ff9b::/96", "::ffff:0:0/96"))
        assert not (address.is_link_local or address.is_loopback or address.is_multicast or address.is_unspecified)


def test_what_is_opened():
    assert ranges.is_opened("10.1.2.3", ("10.0.0.0/8",))
    assert not ranges.is_opened("11.1.2.3", ("10.0.0.0/8",))
    assert not ranges.is_opened("fd00::1", ("10.0.0.0/8",))
    assert not ranges.is_opened("10.1.2.3", ())
    assert not ranges.is_opened("nonsense", ("10.0.0.0/8",))


def test_a_private_network_that_is_opened_opens_no_metadata_service_within_it():
    assert ranges.is_opened("100.64.1.1", ("100.64.0.0/10",))
    assert not ranges.is_opened("100.100.100.200", ("100.64.0.0/10",))
    assert not ranges.is_opened("fd00:ec2::254", ("fc00::/7",))
    assert ranges.is_opened("169.254.169.254", ("169.254.169.254/32",))
    assert ranges.is_opened("169.254.170.2", ("169.254.170.0/24",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8", True),
        ("10.1.0.0/16", True),
        ("127.0.0.0/8", True),
        ("0.0.0.0/0", False),
        ("8.0.0.0/6", False),
        ("203.0.113.0/24", False),
        ("fd00::/8", True),
        ("::/0", False),
        ("2000::/3", False),
        ("::1/128", True),
        ("64:ff9b::/96", False),
    ],
)
def test_ranges_of_forbidden_addresses_only(text, expected):
    assert ranges.is_all_forbidden(ipaddress.ip_network(text)) is expected
