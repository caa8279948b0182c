"""One form for each host name and address, whatever way the code wrote it, so that what is decided is what is dialled.

Names are in their ASCII form (`xn--…`) and lower case, without the last dot; addresses as `ipaddress` prints them.
What ends in a number is an address, as browsers have it (WHATWG URL): a resolver might take it for one."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

MAX_NAME = 253

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")


class Host(NamedTuple):
    """`text`: a normal name or a canonical address."""

    text: str
    is_address: bool


def read_host(text: str) -> Host:
    """What the code asked for: a name, or an address in any form that a program might take for one (`127.1`,
    `0x7f000001`, `[::1]`, `::ffff:127.0.0.1`). Raises ValueError."""
    plain = _plain(text)
    if ":" in plain:
        return Host(_address6(plain), True)
    if _ends_in_number(plain):
        return Host(_address4(plain), True)
    return Host(_checked_name(plain), False)


def normalise(name: str) -> str:
    """Raises ValueError for what is not a host name, and for addresses too."""
    host = read_host(name)
    if host.is_address:
        raise ValueError(f"{host.text} is an address and not a name")
    return host.text


def is_address(text: str) -> bool:
    """Whether any program would take it for an address, also a wrong one: it is then never looked up as a name."""
    try:
        plain = _plain(text)
    except ValueError:
        return ":" in text or "[" in text
    return ":" in plain or _ends_in_number(plain)


def canonical_address(text: str) -> str:
    """Raises ValueError. An IPv4 address inside an IPv6 one (`::ffff:1.2.3.4`) is given as the IPv4 address."""
    host = read_host(text)
    if not host.is_address:
        raise ValueError(f"{host.text} is a name and not an address")
    return host.text


def _plain(text: str) -> str:
    """ASCII, lower case, without brackets and the last dot."""
    if not 0 < len(text) <= MAX_NAME + 1:
        raise ValueError(f"a name of {len(text)} characters")
    if "%" in text:
        raise ValueError("percent signs are not of host names, and zones are not of addresses")
    if text.startswith("[") and text.endswith("]"):
        if ":" not in text:
            raise ValueError("brackets are for IPv6 addresses")
        return text[1:-1].lower()
    return _ascii(text).lower().removesuffix(".")


def _ascii(text: str) -> str:
    if text.isascii():
        return text
    # its tables take a megabyte, and nearly all names are ASCII
    import idna

    # dots and digits of other scripts become ordinary ones here, so this comes before any look for an address
    mapped = idna.uts46_remap(text, std3_rules=True, transitional=False)
    return mapped if mapped.isascii() else idna.encode(mapped).decode()


def _ends_in_number(plain: str) -> bool:
    return _NUMBER.fullmatch(plain.rpartition(".")[2]) is not None


def _address4(plain: str) -> str:
    parts = [_number(part) for part in plain.split(".")]
    *head, last = parts
    if len(parts) > 4 or any(part > 255 for part in head) or last >= 256 ** (5 - len(parts)):
        raise ValueError(f"{plain} is no address")
    value = last + sum(part << 8 * (3 - place) for place, part in enumerate(head))
    return str(ipaddress.IPv4Address(value))


def _number(part: str) -> int:
    """As inet_aton reads it: 0x10 is 16, and 010 is 8."""
    if not _NUMBER.fullmatch(part):
        raise ValueError(f"{part!r} is no part of an address")
    if part.startswith("0x"):
        return int(part, 16)
    return int(part, 8 if len(part) > 1 and part.startswith("0") else 10)


def _address6(plain: str) -> str:
    address = ipaddress.IPv6Address(plain)
    return str(address.ipv4_mapped or address)


def _checked_name(plain: str) -> str:
    if len(plain) > MAX_NAME or not _NAME.fullmatch(plain):
        raise ValueError(f"{plain!r} is no host name")
    for label in plain.split("."):
        if label.startswith("xn--"):
            _check_encoded(label)
    return plain


def _check_encoded(label: str) -> None:
    """A label that says that it is encoded and encodes nothing could be read as another name somewhere."""
    try:
        decoded = label[4:].encode().decode("punycode")
    except (UnicodeError, OverflowError) as error:
        raise ValueError(f"{label} is no encoded name") from error
    if decoded.isascii():
        raise ValueError(f"{label} encodes an ordinary name")
