"""Answers that are decoded before they are searched: nothing large at once, nothing that looks complete and is not."""

from __future__ import annotations

import gzip
import zlib

import pytest

from cloche.egress.http.framing import BadMessageError, Framing
from cloche.egress.http.heads import RequestHead, ResponseHead
from cloche.egress.http.response_filter import ResponseFilter
from cloche.egress.secrecy.redaction import Redaction
from tests.egress_peers import VALUE, a_secret


def a_request(method="GET"):
    return RequestHead(
        method=method, target="/", form="origin", scheme="", host="a.b", port=None, version="1.1", headers=(),
        framing=Framing("none"), keep_alive=True, expects_continue=False, upgrade=None,
    )  # fmt: skip


def a_filter(*headers, kind="length", length=5, method="GET"):
    head = ResponseHead(
        status=200, reason="OK", version="1.1", headers=headers, framing=Framing(kind, length), keep_alive=True
    )
    return ResponseFilter(Redaction([a_secret()]), head, a_request(method))


GZIP = (b"Content-Encoding", b"gzip")


def test_a_bomb_comes_in_pieces():
    bomb = gzip.compress(b"0" * 30_000_000)
    sizes = [len(piece) for piece in a_filter(GZIP).piece(bomb)]
    assert max(sizes) <= 256 << 10 and sum(sizes) == 30_000_000


def test_a_decoded_answer_says_no_length_and_no_encoding():
    head = a_filter(GZIP, (b"Content-Length", b"5"), (b"X", b"y")).head
    assert head.headers == ((b"X", b"y"), (b"Transfer-Encoding", b"chunked")) and head.framing.kind == "chunked"
    assert a_filter(GZIP, kind="close", length=0).head.headers == ()


def test_an_answer_without_a_body_keeps_its_headers():
    assert a_filter(GZIP, (b"Content-Length", b"5"), kind="none", length=0, method="HEAD").head.headers[0] == GZIP


def test_an_incomplete_encoded_body_is_an_error_and_an_empty_one_is_not():
    half = a_filter(GZIP)
    list(half.piece(gzip.compress(b"hello" * 100)[:-9]))
    with pytest.raises(BadMessageError):
        half.end()
    assert a_filter(GZIP).end() == b""


@pytest.mark.parametrize(
    "data", [b"nonsense", gzip.compress(b"a", mtime=0) + b"nonsense", zlib.compress(b"a" * 9)[:-1] + b"!"]
)
def test_a_damaged_body_is_an_error(data):
    with pytest.raises(BadMessageError) as caught:
        list(a_filter(GZIP).piece(data))
    assert caught.value.status == 502


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_value_over_the_borders_of_encoded_pieces(size):
    data = gzip.compress(b"<" + VALUE.encode() + b">", mtime=0)
    filtered = a_filter(GZIP)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    out = b"".join(plain for piece in pieces for plain in filtered.piece(piece)) + filtered.end()
    assert out.startswith(b"<[secret TOKEN]") and out.endswith(b">") and len(out) == len(VALUE) + 2


def test_a_value_that_is_a_number_does_not_break_framing():
    one = a_secret(value="12345678")
    head = ResponseHead(
        status=200, reason="OK", version="1.1", headers=((b"Content-Length", b"12345678"), (b"X", b"12345678")),
        framing=Framing("length", 12345678), keep_alive=True,
    )  # fmt: skip
    filtered = ResponseFilter(Redaction([one]), head, a_request())
    assert filtered.head.headers == ((b"Content-Length", b"12345678"), (b"X", b"********"))


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, br", VALUE.encode()])
def test_an_encoding_that_nobody_reads_here_is_refused_and_not_repeated(coding):
    with pytest.raises(BadMessageError) as caught:
        a_filter((b"Content-Encoding", coding))
    assert caught.value.status == 502 and coding.decode() not in str(caught.value)
