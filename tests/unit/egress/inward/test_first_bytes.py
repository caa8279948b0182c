"""Whose name the first request says, at a port's own address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.egress.inward.first_bytes import Seen, is_of_this_machine, look


@pytest.mark.parametrize(("data", "kind"), [
    (b"\x16\x03\x01\x02\x00\x01", "raw"), (b"SSH-2.0-OpenSSH_9.2\r\n", "raw"), (b"\0\0\0\x08\x04\xd2\x16\x2f", "raw"),
    (b"*1\r\n$4\r\nPING\r\n", "raw"), (b"GET key\r\n", "raw"), (b"EHLO me\r\n", "raw"), (b"PING\n", "raw"),
    (b"GET key", "raw"), (b"GET  /", "raw"), (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "raw"),
    (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "raw"), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "raw"),
    (b"OPTIONS rtsp://a/ RTSP/1.0\r\n", "raw"), (b"GET / \r\n", "raw"), (b"GET /\r\n", "raw"),
    (b" GET / HTTP/1.1", "raw"),
    (b"P", "word"), (b"ping", "word"), (b"GET", "word"), (b"GET ", "word"), (b"x!#-" * 9, "word"),
    (b"GET /", "line"), (b"get /a b", "line"), (b"GET / HTTP/1.1\r", "line"), (b"M-SEARCH /\xff", "line"),
    (b"GET / HTTP/1.1\r\n", "head"), (b"GET / HTTP/1.1\nHost: a\r\n\r", "head"),
    (b"X'Y / HTTP/1.0\r\nA: b\r\n", "head"),
    (b"GET / HTTP/1.0\r\n\r\n", "request"), (b"GET /a b HTTP/1.1\n\n", "request"), (b"P /? HTTP/1.9\r\n\n", "request"),
])  # fmt: skip
def test_what_it_looks_like(data, kind):
    assert look(data).kind == kind


def test_every_host_of_the_head_is_seen():
    head = b"POST / HTTP/1.1\r\nhost:a.example:80\r\nX-Host: b\r\nHOST : \tc \r\n\r\nHost: body\r\n\r\n"
    assert look(head) == Seen("request", ("a.example:80", " \tc "))
    assert look(b"GET / HTTP/1.1\nHost: d\n\n").hosts == (" d",)


@pytest.mark.parametrize("host", [
    "localhost", "LOCALHOST:8000", "localhost.", "8000-x.localhost:1", "127.0.0.1", "127.0.0.1:8000", "[::1]:80",
    "[::1]", "10.1.2.3:4", "", ":80", " localhost\t", "0.0.0.0",
])  # fmt: skip
def test_names_that_no_page_can_have(host):
    assert is_of_this_machine(host)


@pytest.mark.parametrize("host", [
    "rebound.example", "localhost.example", "xlocalhost", "127.0.0.1.example", "localhost@rebound.example", "a b",
    "a:b", "localhost, rebound.example", "[rebound.example]", "rebound.example:80", "localhost/x", "my-machine", "[::1",
    "a:1:2", "localhost%2eexample", "ä.localhost.example",
])  # fmt: skip
def test_names_that_a_page_may_have(host):
    assert not is_of_this_machine(host)


@given(
    st.from_regex(rb"[A-Za-z!-]{1,9} /[!-~]{0,20} HTTP/1\.1\r\n", fullmatch=True),
    st.lists(st.sampled_from([b"Accept: */*\r\n", b"hosts: x\r\n", b"Cookie: host: a\r\n"]), max_size=4),
    st.binary(max_size=40),
)
def test_a_request_is_kept_back_until_its_host_is_known(line, headers, body):
    whole = line + b"".join(headers) + b"Host: rebound.example\r\n\r\n"
    for count in range(1, len(whole)):
        assert look(whole[:count]).kind in ("word", "line", "head")
    assert look(whole + body).hosts == (" rebound.example",)


@given(st.binary(min_size=1, max_size=200), st.text(max_size=60))
def test_nothing_is_too_odd(data, host):
    look(data)
    is_of_this_machine(host)
