"""Responses as the door reads them: where a body ends is never a matter of opinion, and what comes behind it is
nobody's answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.egress.http.requests import BadMessageError, BodyWriter, Framing, ResponseReader
from tests.unit.egress.http.reading import request, response_in

GET, HEAD, OLD = request(), request("HEAD"), request(version=b"1.0")
WEBSOCKET = request("GET", b"Connection: Upgrade", b"Upgrade: websocket")
OK = b"HTTP/1.1 200 OK\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

GOOD = {
    "length": (GET, OK + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
    "empty": (GET, OK + b"Content-Length: 0\r\n\r\n", b"", True),
    "chunks": (GET, OK + b"Transfer-Encoding: Chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: t\r\n\r\n", b"hello", True),
    "closing": (GET, OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
    "no content": (GET, b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "not modified": (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", True),
    "head": (HEAD, OK + b"Content-Length: 5\r\n\r\n", b"", True),
    "head of chunks": (HEAD, OK + b"Transfer-Encoding: chunked\r\n\r\n", b"", True),
    "1.0 with length": (GET, b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
    "1.0 that stays": (GET, b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", b"", True),
    "no reason": (GET, b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"", True),
    "hints": (GET, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK
              + b"Content-Length: 2\r\n\r\nhi", b"hi", True),
}  # fmt: skip

BAD = {
    "CL and TE": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CL twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "CL list": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "CL odd": OK + b"Content-Length: 5x\r\n\r\nhello",
    "TE gzip": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE of 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE space": OK + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare CR": OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "nul": OK + b"X: a\0\r\nContent-Length: 0\r\n\r\n",
    "upgrade nobody asked for": SWITCHED,
    "version 2": b"HTTP/2 200\r\n\r\n",
    "0.9": b"<html>\r\n\r\n",
    "status 99": b"HTTP/1.1 99 X\r\n\r\n",
    "status 1000": b"HTTP/1.1 1000 X\r\n\r\n",
    "large head": OK + b"X: yyyyyyyyyyyyyyy\r\n" * 4000,
    "hints without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 40,
    "chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
    "ICY": b"ICY 200 OK\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("size", [1, 6, 1 << 20])
def test_a_response_ends_where_it_says(name, size):
    asked, data, body, reusable = GOOD[name]
    heads, found, reader = response_in(data, asked, size)
    assert (found, reader.reusable) == (body, reusable)
    assert len(heads) == (3 if name == "hints" else 1)


@pytest.mark.parametrize("name", GOOD)
def test_what_goes_down_is_the_same_response(name):
    asked, data, body, _ = GOOD[name]
    heads, _, _ = response_in(data, asked)
    writer = BodyWriter(heads[-1].body_for(asked))
    sent = b"".join(head.downstream(asked) for head in heads) + writer.piece(body) + writer.end()
    again, found, _ = response_in(sent, asked)
    assert ([head.status for head in again], found) == ([head.status for head in heads], body)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_can_be_read_in_two_ways_is_nobodys_answer(name, size):
    with pytest.raises(BadMessageError) as refused:
        response_in(BAD[name], GET, size)
    assert refused.value.status == 502
    assert len(str(refused.value)) < 120 and "secret" not in str(refused.value)


def test_a_response_without_length_ends_with_the_connection():
    heads, body, reader = response_in(OK + b"\r\nhello", GET)
    assert (body, heads[0].framing) == (None, Framing("close"))
    heads, body, reader = response_in(OK + b"\r\nhello", GET, end=True)
    assert (body, reader.reusable) == (b"hello", False)
    assert b"Connection: close\r\n" in heads[0].downstream(GET)


@pytest.mark.parametrize("data", [OK, OK + b"Content-Length: 5\r\n\r\nhell", b"",
                                  OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"])  # fmt: skip
def test_a_response_that_is_cut_off_is_an_error(data):
    with pytest.raises(BadMessageError) as cut:
        response_in(data, GET, end=True)
    assert cut.value.status == 502


@pytest.mark.parametrize("name", ["length", "chunks", "no content", "head", "not modified"])
def test_what_comes_behind_is_no_answer_to_the_next_request(name):
    asked, data, body, _ = GOOD[name]
    _, found, reader = response_in(data + OK + b"Content-Length: 0\r\n\r\n", asked)
    assert (found, reader.reusable) == (body, False)


def test_bodies_that_must_not_be_are_not_announced():
    heads, body, reader = response_in(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", GET)
    assert (body, reader.reusable) == (b"", False)
    assert heads[0].downstream(GET) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_an_old_client_gets_no_chunks_and_no_hints():
    heads = response_in(GOOD["hints"][1], OLD)[0]
    assert heads[0].downstream(OLD) == b""
    heads = response_in(GOOD["chunks"][1], OLD)[0]
    assert heads[0].body_for(OLD) == Framing("close")
    assert heads[0].downstream(OLD) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    stays = request("GET", b"Connection: keep-alive", version=b"1.0")
    assert b"Connection: keep-alive\r\n" in response_in(GOOD["length"][1], stays)[0][0].downstream(stays)


def test_order_and_case_stay_and_what_is_for_one_connection_goes():
    data = OK + b"sErver: x\r\nConnection: keep-alive, X-Own\r\nX-Own: 1\r\nKeep-Alive: 5\r\nSet-Cookie: a\r\n" \
        b"content-length: 0\r\nset-cookie: b\r\n\r\n"  # fmt: skip
    assert response_in(data, GET)[0][0].downstream(GET) == (
        OK + b"sErver: x\r\nSet-Cookie: a\r\ncontent-length: 0\r\nset-cookie: b\r\n\r\n"
    )


def test_an_upgrade_leads_to_raw_bytes():
    heads, body, reader = response_in(SWITCHED + b"raw", WEBSOCKET)
    assert (heads[0].framing, body, reader.take_rest()) == (Framing("tunnel"), b"", b"raw")
    assert heads[0].downstream(WEBSOCKET) == SWITCHED.replace(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    )
    with pytest.raises(BadMessageError):
        response_in(SWITCHED.replace(b"websocket", b"h2c"), WEBSOCKET)


def test_a_refused_upgrade_is_a_response():
    heads, body, reader = response_in(GOOD["length"][1], WEBSOCKET)
    assert (heads[0].status, body, reader.reusable) == (200, b"hello", True)


def test_a_response_that_comes_after_the_connection_was_used_up_is_none():
    reader = ResponseReader(GET)
    assert not reader.begun
    reader.feed(GOOD["empty"][1])
    assert reader.begun
    while reader.next() is not None:
        pass
    assert reader.reusable
    reader.feed(b"")
    assert not reader.reusable


@given(st.binary(max_size=120))
def test_any_bytes_are_a_response_or_refused(data):
    for message in (data, OK + data, OK + b"Transfer-Encoding: chunked\r\n\r\n" + data):
        try:
            response_in(message, GET, end=True)
        except BadMessageError as error:
            assert error.status == 502


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5), st.integers(1, 40))
def test_chunks_come_out_as_they_went_in(pieces, size):
    writer = BodyWriter(Framing("chunked"))
    data = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(map(writer.piece, pieces)) + writer.end()
    assert response_in(data, GET, size)[1] == b"".join(pieces)


def test_a_writer_keeps_to_its_length():
    writer = BodyWriter(Framing("length", 3))
    writer.piece(b"ab")
    with pytest.raises(ValueError, match="shorter"):
        writer.end()
    with pytest.raises(ValueError, match="longer"):
        writer.piece(b"cd")
    with pytest.raises(ValueError, match="longer"):
        BodyWriter(Framing("none")).piece(b"x")
