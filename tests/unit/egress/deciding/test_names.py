"""However the code writes a host, one form of it is decided, resolved and dialled."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloche.egress.deciding import names

NAMES = [
    ("example.com", "example.com"),
    ("EXAMPLE.Com.", "example.com"),
    ("exam\u200bple.com", "example.com"),  # nothing is seen of a zero-width space, and UTS 46 drops it
    ("example\u3002com", "example.com"),
    ("example\uff0ecom", "example.com"),
    ("ｅｘａｍｐｌｅ.com", "example.com"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("BÜCHER.example", "xn--bcher-kva.example"),
    ("xn--BCHER-kva.example", "xn--bcher-kva.example"),
    ("ex\u0430mple.com", "xn--exmple-4nf.com"),  # a Cyrillic letter gives another name
    ("_dmarc.example.com", "_dmarc.example.com"),
    ("r3---sn-x.example.com", "r3---sn-x.example.com"),
    ("a" * 63 + ".example", "a" * 63 + ".example"),
    ("buildbox", "buildbox"),
    ("1.2.3.4.example", "1.2.3.4.example"),
    ("0x7f.example", "0x7f.example"),
]

ADDRESSES = [
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.1.", "127.0.0.1"),
    ("127.1", "127.0.0.1"),
    ("127.1.", "127.0.0.1"),
    ("127.0.1", "127.0.0.1"),
    ("2130706433", "127.0.0.1"),
    ("0x7f000001", "127.0.0.1"),
    ("0x7f.1", "127.0.0.1"),
    ("0X7F.0x0.0.0x1", "127.0.0.1"),
    ("0177.0.0.01", "127.0.0.1"),
    ("１２７。０。０。１", "127.0.0.1"),
    ("010.0.0.1", "8.0.0.1"),
    ("[::1]", "::1"),
    ("0:0:0:0:0:0:0:1", "::1"),
    ("FE80::1", "fe80::1"),
    ("::ffff:127.0.0.1", "127.0.0.1"),
    ("[::FFFF:7f00:1]", "127.0.0.1"),
    ("2001:DB8:0::1", "2001:db8::1"),
]

REFUSED = [
    "",
    ".",
    "..",
    ".example.com",
    "example..com",
    "example.com..",
    "exa mple.com",
    "example.com\n",
    "example.com\0.other.example",
    "example%2ecom",
    "%65xample.com",
    "-example.com",
    "example-.com",
    "a" * 64 + ".example",
    ".".join(["a" * 60] * 5),
    "user@example.com",
    "example.com:80",
    "example.com/",
    "*.example.com",
    "xn--example-.example",  # encodes an ordinary name
    "xn--.example",
    "a\u200d.example",  # a joiner between letters that are not joined
    "\u2024.example",
    "\u00ad.example",
    "1.2.3.4.5",
    "256.1.1.1",
    "1.2.3.256",
    "1.2.65536",
    "4294967296",
    "0x100000000",
    "08.1.1.1",
    "1..2",
    "1.2.3..",
    "0x.example.0x",
    "example.1",
    "fe80::1%eth0",
    "[fe80::1%25eth0]",
    "[127.0.0.1]",
    "[::1",
    "::1]",
    "1:2:3",
    ":::",
    "\ud800.example",
]


@pytest.mark.parametrize(("text", "normal"), NAMES)
def test_names_have_one_form(text, normal):
    assert names.normalise(text) == normal
    assert names.read_host(text) == (normal, False)
    assert not names.is_address(text)


@pytest.mark.parametrize(("text", "canonical"), ADDRESSES)
def test_what_any_program_takes_for_an_address_is_one(text, canonical):
    assert names.read_host(text) == (canonical, True)
    assert names.canonical_address(text) == canonical
    assert names.is_address(text)
    with pytest.raises(ValueError, match="is an address"):
        names.normalise(text)


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_the_rest_is_refused(text):
    for read in (names.read_host, names.normalise, names.canonical_address):
        with pytest.raises(ValueError):
            read(text)


def test_a_name_is_not_taken_for_an_address():
    with pytest.raises(ValueError, match="is a name"):
        names.canonical_address("example.com")


HOSTILE = st.text(alphabet="aZ0.-_x1:%[]nb\u3002\uff0e\u200b\u200dß\u0130\uff11é\ud800\0 @/*", max_size=40)


@given(st.one_of(st.text(max_size=300), HOSTILE))
@example("xn--" + "9" * 200)
def test_reading_is_idempotent_and_raises_nothing_else(text):
    try:
        host = names.read_host(text)
    except ValueError:
        names.is_address(text)
        return
    assert names.read_host(host.text) == host
    assert host.text.isascii() and host.text == host.text.lower()
    assert names.is_address(host.text) is host.is_address
    assert len(host.text) <= names.MAX_NAME


@given(st.ip_addresses())
def test_addresses_are_as_ipaddress_has_them(address):
    mapped = getattr(address, "ipv4_mapped", None)
    assert names.canonical_address(str(address)) == str(mapped or address)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{}", "{:#x}", "0{:o}"]))
def test_numbers_are_addresses(number, form):
    assert names.canonical_address(form.format(number)) == str(ipaddress.IPv4Address(number))
