"""What is read of an HTTP/2 connection before it is known for whom it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.egress.inward.http2_first import MAX_BYTES, PREFACE, BadHttp2Error, FirstRequestReader
from tests.unit.egress.inward.http2_world import HELLO, NOTED, asking, block, frame, headers


def read(data, *, pieces=1 << 20, greet=False):
    """(first request, what goes to the server)"""
    reader = FirstRequestReader()
    if greet:
        reader.greet()
    found = None
    for at in range(0, len(data), pieces):
        reader.feed(data[at : at + pieces])
        found = reader.next() or found
    return found, reader.said


@pytest.mark.parametrize("pieces", [1, 7, 24, 1 << 20])
def test_the_first_request_says_for_whom_it_is(pieces):
    data = asking("8000-01abc.LOCALHOST:7777", ("accept", "text/html"), ("accept", "*/*"), method="POST")
    found, said = read(data + frame(0, 0, 1, b"body"), pieces=pieces)
    assert found == (1, "8000-01abc.localhost", b"POST", b"text/html,*/*")
    assert said == data + frame(0, 0, 1, b"body")


@pytest.mark.parametrize("first", [
    headers(bytes([3]) + block() + b"\0\0\0", flags=4 | 8), headers(b"\0\0\0\0\x10" + block(), flags=4 | 32),
    headers(bytes([2]) + b"\0\0\0\0\x10" + block() + b"\0\0", flags=4 | 8 | 32),
    headers(block()[:5], flags=1) + frame(9, 0, 1) + frame(9, 4, 1, block()[5:]),
    frame(6, 0, 0, b"pingping") + frame(2, 0, 3, b"\0\0\0\0\1") + frame(0x42, 9, 7, b"?") + headers(block()),
    frame(4, 0, 0, b"") + headers(block(), stream_id=7),
])  # fmt: skip
def test_heads_come_in_many_forms(first):
    found, said = read(HELLO + first)
    assert (found.host, said) == ("a.localhost", HELLO + first)


@pytest.mark.parametrize(("data", "code"), [
    (PREFACE[:-1] + b"x", 1), (b"PRI * HTTP/2.0\r\n\r\nXX", 1), (PREFACE + headers(block()), 1),
    (HELLO + frame(0, 0, 1, b"x"), 1), (HELLO + frame(3, 0, 1, b"\0\0\0\0"), 1), (HELLO + frame(9, 4, 1, block()), 1),
    (HELLO + frame(5, 4, 1, b"\0\0\0\2" + block()), 1), (HELLO + frame(7, 0, 0, b"\0" * 8), 1), (HELLO + NOTED, 1),
    (PREFACE + frame(4, 0, 0, b"12345"), 6), (PREFACE + frame(4, 0, 1), 6), (PREFACE + b"\0\x40\1\4\0\0\0\0\0", 6),
    (HELLO + headers(block(), stream_id=2), 1), (HELLO + headers(block(), stream_id=0), 1),
    (HELLO + headers(b"\x09" + b"x", flags=12), 1), (HELLO + headers(b"", flags=12), 1),
    (HELLO + headers(block()[:5], flags=1) + frame(6, 0, 0, b"pingping"), 1),
    (HELLO + headers(block()[:5], flags=1) + frame(9, 4, 3, block()[5:]), 1), (HELLO + headers(b"\xff\xff\xff"), 9),
    (HELLO + headers(block() + b"\xc0"), 9), (HELLO + headers(b"", flags=5), 1), (HELLO + headers(b"\x82\x82"), 1),
])  # fmt: skip
def test_what_is_no_http_2_is_refused(data, code):
    with pytest.raises(BadHttp2Error) as raised:
        read(data)
    assert raised.value.code == code


@pytest.mark.parametrize("more", [
    [("host", "b.localhost")], [("host", "a.localhost"), ("host", "a.localhost")], [(":authority", "a.localhost")],
    [("Host", "b.localhost")], [("host", "")], [("host", "a.localhost, b")], [("host", "a.localhost:81")],
])  # fmt: skip
def test_a_request_names_one_host(more):
    with pytest.raises(BadHttp2Error):
        read(asking("a.localhost", *more))


@pytest.mark.parametrize(
    "host", ["x@a.localhost", "a.localhost/", "a b", "", "a.localhost\r\nx", "a%00", "ä.localhost"]
)
def test_a_host_is_a_name(host):
    with pytest.raises(BadHttp2Error):
        read(asking(host))


def test_a_host_may_be_said_in_the_old_way_or_not_at_all():
    assert read(asking(None, ("host", "a.localhost")))[0].host == "a.localhost"
    assert read(asking("a.localhost:80", ("host", "a.localhost:80")))[0].host == "a.localhost"
    assert read(asking(None))[0].host == ""


@pytest.mark.parametrize("pieces", [1, 9, 1 << 20])
def test_the_note_of_a_greeting_is_not_for_the_server(pieces):
    rest = headers(block()) + frame(0, 0, 1, b"more") + frame(0, 1, 1, b"end")[:5]
    for data in (HELLO + NOTED + rest, HELLO + headers(block()) + frame(0, 0, 1, b"x") + NOTED + frame(6)[:4]):
        found, said = read(data, pieces=pieces, greet=True)
        assert found.host == "a.localhost"
        assert said == data.replace(NOTED, b"")


def test_a_greeted_client_is_waited_for_until_it_has_noted_it():
    assert read(HELLO + headers(block()), greet=True)[0] is None
    for data in (HELLO + NOTED + NOTED, HELLO + frame(4, 1, 0, b"123456")):
        with pytest.raises(BadHttp2Error):
            read(data, greet=True)


@pytest.mark.parametrize("flood", [
    frame(4), frame(6, 0, 0, b"pingping"), frame(0x7F, 0, 0), frame(2, 0, 1, b"12345"), frame(8, 0, 0, b"\0\0\0\1"),
])  # fmt: skip
def test_floods_end(flood):
    with pytest.raises(BadHttp2Error) as raised:
        read(HELLO + flood * (MAX_BYTES // len(flood)))
    assert raised.value.code == 11


@pytest.mark.parametrize("piece", [b"", b"\x20", b"\x00\x01a\x01b"])
def test_a_head_that_never_ends_is_cut(piece):
    flood = HELLO + headers(block(), flags=1) + frame(9, 0, 1, piece * 1000) * 8000
    reader, fed = FirstRequestReader(), 0
    with pytest.raises(BadHttp2Error) as raised:
        while fed < len(flood):
            reader.feed(flood[fed : fed + 4096])
            fed += 4096
            reader.next()
    assert raised.value.code == 11 and fed <= MAX_BYTES + 4096


def test_a_small_head_that_is_huge_when_read_is_refused():
    stored = b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000
    for bomb in (stored + b"\xbe" * 12_000, b"\x82" * 16_000, b"\x00\x01a\x00" * 4000):
        with pytest.raises(BadHttp2Error) as raised:
            read(HELLO + b"".join((headers(bomb[:16000], flags=1), frame(9, 4, 1, bomb[16000:]))))
        assert raised.value.code in (9, 11)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.builds(frame, st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)),
            st.builds(headers, st.binary(max_size=60), st.integers(0, 63)),
            st.sampled_from([NOTED, headers(block()), headers(block("b.localhost"), flags=1)]),
        ),
        max_size=8,
    ),
    st.booleans(),
    st.integers(1, 64),
)
def test_anything_is_a_request_or_refused_or_goes_on(parts, greet, pieces):
    data = HELLO + b"".join(parts)
    results = []
    for size in (pieces, 1 << 20):
        try:
            found, said = read(data, pieces=size, greet=greet)
        except BadHttp2Error as error:
            results.append(error.code)
            continue
        assert len(said) in (len(data), len(data) - len(NOTED) * greet)
        results.append(found)
    # in whatever pieces it comes
    assert results[0] == results[1]
