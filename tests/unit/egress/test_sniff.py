from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.egress.sniff import NeedMore, Seen, first_bytes, hello_refusal
from cloche.egress.tls.sni import BadHelloError, ClientHello


def hello_bytes(name: str | None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(inside, outside, server_hostname=name).do_handshake()
    return outside.read()


def protocol(data: bytes) -> str | None:
    seen = first_bytes(data)
    return seen.protocol if isinstance(seen, Seen) else None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\n", "http"),
        (b"GET ", "http"),
        (b"POST /x HTTP/1.0\r\n", "http"),
        (b"PROPFIND / HTTP/1.1\r\n", "http"),
        (b"\r\n\r\n GET / HTTP/1.1\r\n", "http"),
        (b"MADEUP /x HTTP/1.1\r\n", "http"),
        (b"get / HTTP/1.1\r\n", "http"),
        (b"G\x01T / HTTP/1.1\r\n", "tcp"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "tcp"),
        (b"SSH-2.0-OpenSSH\r\n", "tcp"),
        (b"EHLO mail.test\r\n", "tcp"),
        (b"USER me\r\n", "tcp"),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", "tcp"),
        (b"hello", "tcp"),
        (b"MADEUP /x", None),
        (b"G", None),
        (b"GE", None),
        (b"\r\n", None),
        (b"", None),
        (b"\x16", None),
        (b"\x16\x03\x01\x02", None),
    ],
)
def test_what_it_is(data: bytes, expected: str | None) -> None:
    assert protocol(data) == expected


def test_a_hello_in_pieces() -> None:
    hello = hello_bytes("a.test")
    assert {protocol(hello[:length]) for length in range(len(hello))} == {None}
    seen = first_bytes(hello)
    assert isinstance(seen, Seen) and seen.hello is not None
    assert seen.hello.sni == "a.test"


@pytest.mark.parametrize("kind", [20, 21, 23, 24])
def test_another_record_of_tls_before_the_hello_is_no_other_protocol(kind: int) -> None:
    """A server may pass over it: the name in the hello behind it would be nobody's to see."""
    with pytest.raises(BadHelloError, match="before the hello"):
        first_bytes(bytes([kind, 3, 1, 0, 2, 1, 0]) + hello_bytes("a.test"))
    assert protocol(bytes([kind, 4, 1])) == "tcp"
    assert protocol(bytes([kind])) is None


def test_it_says_how_many_bytes_a_hello_needs() -> None:
    """So that it is not read again for each byte that comes."""
    hello = hello_bytes("a.test")
    wanted = set()
    length = 0
    while isinstance(seen := first_bytes(hello[:length]), NeedMore):
        length = seen.at_least
        wanted.add(length)
    assert length == len(hello) and len(wanted) <= 4


def test_blanks_and_words_without_end_are_nothing_by_themselves() -> None:
    assert protocol(b"\r\n" * 100_000) is None
    assert protocol(b"MADEUP /" + b"x" * 100_000) is None


@given(st.binary(max_size=200))
def test_it_raises_nothing_else(data: bytes) -> None:
    try:
        first_bytes(data)
    except BadHelloError:
        assert data[0] in {20, 21, 22, 23, 24} or data[0] & 0x80


@given(st.binary(min_size=1, max_size=60), st.integers(min_value=1, max_value=59))
def test_more_bytes_do_not_change_the_answer(data: bytes, length: int) -> None:
    """Otherwise who sends them one by one would be taken for something else."""
    try:
        early = protocol(data[:length])
        late = protocol(data)
    except BadHelloError:
        return
    assert early is None or early == late


def hello(sni: str | None, has_ech: bool = False) -> ClientHello:
    return ClientHello(sni=sni, alpn=(), version=0x0304, has_ech=has_ech, record_bytes=0)


@pytest.mark.parametrize(
    ("sni", "works"),
    [
        ("a.test", True),
        ("A.Test", True),
        ("a.test.", True),
        ("b.test", False),
        ("a.test.b.test", False),
        (None, False),
        ("a..test", False),
        ("127.0.0.1", False),
    ],
)
def test_the_name_has_to_be_the_one(sni: str | None, works: bool) -> None:
    assert (hello_refusal(hello(sni), "a.test", is_address=False, encrypted_hello=False) is None) is works


def test_an_encrypted_name_needs_a_rule() -> None:
    hidden = hello("a.test", has_ech=True)
    assert "ECH" in (hello_refusal(hidden, "a.test", is_address=False, encrypted_hello=False) or "")
    assert hello_refusal(hidden, "a.test", is_address=False, encrypted_hello=True) is None
    # the outer name counts all the same
    assert hello_refusal(hello("b.test", True), "a.test", is_address=False, encrypted_hello=True) is not None


def test_an_address_needs_no_name() -> None:
    assert hello_refusal(hello(None), "192.0.2.1", is_address=True, encrypted_hello=False) is None
    assert hello_refusal(hello("a.test"), "192.0.2.1", is_address=True, encrypted_hello=False) is None


@pytest.mark.parametrize("line", [b"BREW / HTTP/1.1\r\n", b"A http://a.test/ HTTP/1.0\r\n", b"GET  / HTTP/1.1\r\n"])
def test_a_request_that_comes_byte_by_byte_is_never_taken_for_anything_else(line: bytes) -> None:
    """From its first blank on, where a word in capitals begins it."""
    seen = {protocol(line[:length]) for length in range(line.index(b" ") + 1, len(line) + 1)}
    assert seen <= {None, "http"} and protocol(line) == "http"
