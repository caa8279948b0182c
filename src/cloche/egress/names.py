"""One form for each host name and address, whatever way the code wrote it, so that what is decided is what is dialled.

Names are in their ASCII form (`xn--…`) and lower case, without the last dot; addresses as `ipaddress` prints them."""

from __future__ import annotations

from typing import NamedTuple

MAX_NAME = 253


class Host(NamedTuple):
    """`text`: a normal name or a canonical address."""

    text: str
    is_address: bool


def read_host(text: str) -> Host:
    """What the code asked for: a name, or an address in any form that a program might take for one (`127.1`,
    `0x7f000001`, `[::1]`, `::ffff:127.0.0.1`). Raises ValueError."""
    raise NotImplementedError


def normalise(name: str) -> str:
    """Raises ValueError for what is not a host name, and for addresses too."""
    raise NotImplementedError


def is_address(text: str) -> bool:
    """Whether any program would take it for an address, also a wrong one: it is then never looked up as a name."""
    raise NotImplementedError


def canonical_address(text: str) -> str:
    """Raises ValueError. An IPv4 address inside an IPv6 one (`::ffff:1.2.3.4`) is given as the IPv4 address."""
    raise NotImplementedError
