"""Which addresses nobody reaches who was not given them by range: this machine, its network, clouds' metadata.

The documentation ranges (192.0.2.0/24 …) are not among them: they lead nowhere, and tests use them."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Container, Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

METADATA = "metadata service"

#: the smaller range stands before the larger one that it lies in
_RANGES4 = [
    ("169.254.169.254/32", METADATA),  # AWS, Azure, Google, and most others
    ("169.254.170.0/24", METADATA),  # AWS: credentials of containers
    ("168.63.129.16/32", METADATA),  # Azure's host agent, in a range that looks public
    ("100.100.100.200/32", METADATA),  # Alibaba
    ("192.0.0.192/32", METADATA),  # Oracle
    ("0.0.0.0/8", "address of this machine"),
    ("10.0.0.0/8", "private address"),
    ("100.64.0.0/10", "shared address of a provider"),
    ("127.0.0.0/8", "loopback address"),
    ("169.254.0.0/16", "link-local address"),
    ("172.16.0.0/12", "private address"),
    ("192.0.0.0/24", "reserved address"),
    ("192.88.99.0/24", "reserved address"),
    ("192.168.0.0/16", "private address"),
    ("198.18.0.0/15", "address of the sandbox's own names"),
    ("224.0.0.0/4", "multicast address"),
    ("255.255.255.255/32", "broadcast address"),
    ("240.0.0.0/4", "reserved address"),
]
_RANGES6 = [
    ("fd00:ec2::/32", METADATA),  # AWS
    ("fd20:ce::254/128", METADATA),  # Google
    ("fd00:42::42/128", METADATA),  # Scaleway
    ("::/128", "address of this machine"),
    ("::1/128", "loopback address"),
    ("fc00::/7", "private address"),
    ("fe80::/10", "link-local address"),
    ("fec0::/10", "private address"),
    ("ff00::/8", "multicast address"),
    ("2001:2::/48", "reserved address"),
    ("2001:10::/28", "reserved address"),
    ("2001:20::/28", "reserved address"),
]
_NETWORKS4 = [(ipaddress.IPv4Network(text), reason) for text, reason in _RANGES4]
_NETWORKS6 = [(ipaddress.IPv6Network(text), reason) for text, reason in _RANGES6]
_PUBLIC6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def forbidden(address: str, own: Container[str] = ()) -> str | None:
    """Why it is refused ("private address", "loopback address", "metadata service", …), None when it is not.
    `address` is canonical; `own`: canonical addresses of this machine. What is no address is forbidden too."""
    reason = _forbidden(address)
    if reason is None and address in own:
        return "address of this machine"
    return reason


#: version of the protocol, first and last address: quicker to look through than networks, ten times
Span = tuple[int, int, int]


def span(network: Network) -> Span:
    return network.version, int(network.network_address), int(network.broadcast_address)


def contains(spans: Iterable[Span], address: str) -> bool:
    """False for what is no address. One that a translator takes to an IPv4 address is in the ranges of that, too."""
    found = _parsed(address)
    if found is None:
        return False
    numbers: dict[int, int] = {found.version: int(found)}
    if isinstance(found, ipaddress.IPv6Address) and (found in _NAT64 or found.ipv4_mapped is not None):
        numbers[4] = int(found) & 0xFFFFFFFF
    return any(first <= numbers.get(version, -1) <= last for version, first, last in spans)


def is_opened(address: str, opened: tuple[str, ...]) -> bool:
    """Whether one of these ranges gives a forbidden address. Only ranges of nothing else give a metadata service:
    who opens the private network around it does not mean it."""
    if not opened:
        return False
    networks: Iterable[Network] = _networks(opened)
    if _forbidden(address) == METADATA:
        networks = [network for network in networks if _is_metadata(network)]
    return contains(map(span, networks), address)


def is_all_forbidden(network: Network) -> bool:
    """Whether somebody who names this range can only have meant forbidden addresses."""
    if isinstance(network, ipaddress.IPv4Network):
        return any(network.subnet_of(known) for known, _ in _NETWORKS4)
    outside = not network.overlaps(_PUBLIC6) and not network.overlaps(_NAT64)
    return outside or any(network.subnet_of(known) for known, _ in _NETWORKS6)


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


@functools.lru_cache(maxsize=1024)
def _networks(texts: tuple[str, ...]) -> list[Network]:
    return [ipaddress.ip_network(text) for text in texts]


def _is_metadata(network: Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network):
        return any(reason == METADATA and network.subnet_of(known) for known, reason in _NETWORKS4)
    return any(reason == METADATA and network.subnet_of(known) for known, reason in _NETWORKS6)


@functools.lru_cache(maxsize=4096)
def _forbidden(text: str) -> str | None:
    address = _parsed(text)
    if address is None:
        return "no address"
    if isinstance(address, ipaddress.IPv4Address):
        return _reason4(address)
    return _reason6(address)


def _reason4(address: ipaddress.IPv4Address) -> str | None:
    return next((reason for network, reason in _NETWORKS4 if address in network), None)


def _reason6(address: ipaddress.IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "address with a zone"
    known = next((reason for network, reason in _NETWORKS6 if address in network), None)
    if known is not None:
        return known
    inner = _inner_addresses(address)
    reasons = [reason for part in inner if (reason := _reason4(part))]
    if reasons:
        return reasons[0]
    return None if inner or address in _PUBLIC6 else "reserved address"


def _inner_addresses(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses that a packet to it would reach by a tunnel or a translator."""
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address.teredo is not None:
        return list(address.teredo)
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return []
