"""Requests as the door reads them: everything that two parsers may read in two ways is refused, everything else goes on
as it came, and h11 and llhttp see in it what the door saw."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.egress.http.requests import END, BadMessageError, BodyWriter, RequestHead, RequestReader, begins_request
from tests.unit.egress.http.reading import request, requests_in, seen_by_h11, seen_by_httptools

POST = b"POST /p HTTP/1.1\r\nHost: a.example\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /admin HTTP/1.1\r\nHost: a.example\r\n\r\n"

GOOD = {
    "get": b"GET /a?b=c HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\n\r\n",
    "old with host": b"GET / HTTP/1.0\r\nHost: a.example:8080\r\nConnection: keep-alive\r\n\r\n",
    "absolute": b"GET http://A.example/x?y HTTP/1.1\r\nHost: a.EXAMPLE\r\n\r\n",
    "absolute, usual port": b"GET http://a.example:80/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "absolute without path": b"GET http://a.example?q HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "options": b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "connect": b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
    "connect, host without port": b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "connect 6": b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n",
    "length": POST + b"Content-Length: 5\r\n\r\nhello",
    "no bytes": POST + b"Content-Length: 0\r\n\r\n",
    "chunks": CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "extensions": CHUNKED + b"5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n",
    "trailers": CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n",
    "zeros": CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n",
    "get with a body": b"GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi",
    "expects": POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    "websocket": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
    "empty value": b"GET / HTTP/1.1\r\nHost: a.example\r\nX:\r\nY: \r\n\r\n",
    "bytes above ascii": b"GET / HTTP/1.1\r\nHost: a.example\r\nX: \xe4\xff\r\n\r\n",
}  # fmt: skip

BAD = {
    "CL.TE": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE.CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n" + SMUGGLED,
    "TE.TE": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "TE twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE list": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "TE gzip": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "TE identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "TE other": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "TE of 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE space": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE form feed": POST + b"Transfer-Encoding:\x0cchunked\r\n\r\n0\r\n\r\n",
    "TE nul": POST + b"Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n",
    "TE folded": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "TE after LF": POST + b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE after CR": POST + b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "name folded": POST + b" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": b"GET / HTTP/1.1\r\nHost: a.example\r\nX: a\r\n b\r\n\r\n",
    "obs-fold tab": b"GET / HTTP/1.1\r\nHost: a.example\r\nX: a\r\n\tb\r\n\r\n",
    "CL twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "CL two": POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
    "CL list": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "CL plus": POST + b"Content-Length: +5\r\n\r\nhello",
    "CL minus": POST + b"Content-Length: -5\r\n\r\nhello",
    "CL hex": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "CL zero in front": POST + b"Content-Length: 05\r\n\r\nhello",
    "CL empty": POST + b"Content-Length:\r\n\r\nhello",
    "CL underscore": POST + b"Content-Length: 1_0\r\n\r\nhello",
    "CL space inside": POST + b"Content-Length: 1 0\r\n\r\nhello",
    "CL large": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "CL other digits": POST + "Content-Length: ٥\r\n\r\nhello".encode(),
    "Connection names the length": POST + b"Connection: content-length\r\nContent-Length: 5\r\n\r\nhello",
    "Connection names the host": b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close, Host\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a.example\n\n",
    "one bare LF": b"GET / HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n",
    "LF at the end": b"GET / HTTP/1.1\r\nHost: a.example\r\n\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: a.example\r\nX: y\rz\r\n\r\n",
    "CR CR LF": b"GET / HTTP/1.1\r\nHost: a.example\r\r\n\r\n",
    "nul": b"GET / HTTP/1.1\r\nHost: a.example\r\nX: y\0z\r\n\r\n",
    "empty line first": b"\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
    "same Host twice": b"GET / HTTP/1.1\r\nHost: a.example\r\nhost: a.example\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
    "empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "Host list": b"GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n",
    "Host with user": b"GET / HTTP/1.1\r\nHost: u@a.example\r\n\r\n",
    "Host with path": b"GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n",
    "Host escaped": b"GET / HTTP/1.1\r\nHost: a%2eexample\r\n\r\n",
    "Host port": b"GET / HTTP/1.1\r\nHost: a.example:65536\r\n\r\n",
    "Host empty port": b"GET / HTTP/1.1\r\nHost: a.example:\r\n\r\n",
    "Host zone": b"GET / HTTP/1.1\r\nHost: [fe80::1%25lo]\r\n\r\n",
    "absolute against Host": b"GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n",
    "absolute, other port": b"GET http://a.example:81/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "absolute with user": b"GET http://b.example@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "absolute, empty": b"GET http:///x HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "absolute of another kind": b"GET ftp://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "backslash": b"GET http://a.example\\@b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "no slash": b"GET a.example HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "asterisk of GET": b"GET * HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "connect without port": b"CONNECT a.example HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "connect against Host": b"CONNECT a.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n",
    "connect against port": b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
    "connect with an empty Host against": b"CONNECT a.example:443 HTTP/1.1\r\nHost: \r\nHost: b:443\r\n\r\n",
    "connect with nothing": b"CONNECT  HTTP/1.1\r\n\r\n",
    "connect and a bit": b"CONNECT a:443 b HTTP/1.1\r\n\r\n",
    "connect with a body": b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nContent-Length: 2\r\n\r\nhi",
    "connect with chunks": b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "connect to a URL": b"CONNECT http://a:443/ HTTP/1.1\r\nHost: a:443\r\n\r\n",
    "version 0.9": b"GET /\r\n\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\nHost: a.example\r\n\r\n",
    "version 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version lower": b"GET / http/1.1\r\nHost: a.example\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "tab": b"GET\t/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "target above ascii": b"GET /\xe4 HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "method lower": b"get / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "method odd": b"GE(T / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "empty name": b"GET / HTTP/1.1\r\nHost: a.example\r\n: x\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: a.example\r\nX\r\n\r\n",
    "name odd": b"GET / HTTP/1.1\r\nHost: a.example\r\nX[: y\r\n\r\n",
    "other expectation": POST + b"Expect: 200-ok\r\nContent-Length: 0\r\n\r\n",
    "chunk 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "chunk plus": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "chunk minus": CHUNKED + b"-1\r\nhello\r\n0\r\n\r\n",
    "chunk space": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "chunk space first": CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
    "chunk LF": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "chunk CR": CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "chunk LF in an extension": CHUNKED + b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "chunk end LF": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "chunk end odd": CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
    "chunk too short": CHUNKED + b"6\r\nhello\r\n0\r\n\r\n",
    "chunk large": CHUNKED + b"fffffffffffffffff\r\n",
    "chunk near 2^64": CHUNKED + b"ffffffffffffffff\r\n",
    "chunk empty size": CHUNKED + b"\r\nhello\r\n",
    "extension bomb": CHUNKED + b"1;" + b"a" * 20_000 + b"\r\nx\r\n0\r\n\r\n",
    "extension drip": CHUNKED + (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 30 + b"0\r\n\r\n",
    "trailer bomb": CHUNKED + b"0\r\n" + b"X: yyyyyyyyyyyy\r\n" * 2000 + b"\r\n",
    "trailer folded": CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n",
    "trailer LF": CHUNKED + b"0\r\nX: y\n\r\n",
    "trailer of a length": CHUNKED + b"0\r\ncontent-LENGTH: 5\r\n\r\n",
    "trailer of a coding": CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer is none": CHUNKED + b"0\r\nGET / HTTP/1.1\r\n\r\n",
    "large head": b"GET / HTTP/1.1\r\nHost: a.example\r\n" + b"X: yyyyyyyyyyyyyyy\r\n" * 4000,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_can_be_read_in_two_ways_is_refused_however_it_comes(name, size):
    reader = RequestReader()
    with pytest.raises(BadMessageError) as refused:
        for at in range(0, len(BAD[name]), size):
            reader.feed(BAD[name][at : at + size])
            while (event := reader.next()) is not None:
                # nothing of what hides behind the first request is ever a request
                assert not isinstance(event, RequestHead) or "/admin" not in event.target
    assert refused.value.status in (400, 417, 431, 501, 505)
    with pytest.raises(BadMessageError):
        reader.next()


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_two_other_parsers_see_what_the_door_sees(name, size):
    ((head, body),) = requests_in(GOOD[name], size)
    method, target, body_of_h11, rest = seen_by_h11(GOOD[name])
    assert (head.method, body, rest) == (method, body_of_h11, b"")
    assert target.endswith(head.target) or (target, head.target) == ("http://a.example?q", "/?q")
    if name not in ("options",):
        assert seen_by_httptools(GOOD[name]) in (None, (method, target, body))


@pytest.mark.parametrize("name", GOOD)
def test_what_goes_upstream_is_the_same_request_for_everybody(name):
    ((head, body),) = requests_in(GOOD[name])
    if head.method == "CONNECT":
        return
    writer = BodyWriter(head.framing)
    sent = head.upstream(authority="site.example:81") + writer.piece(body) + writer.end()
    ((again, same),) = requests_in(sent)
    assert (again.method, again.target, again.host, again.port, same) == (
        head.method, head.target, "site.example", 81, body)  # fmt: skip
    assert seen_by_h11(sent)[:3] == (head.method, head.target, body)
    assert seen_by_httptools(sent) in (None, (head.method, head.target, body))


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_tunnel_is_asked_for_by_its_target_alone(version):
    ((head, _),) = requests_in(b"CONNECT a.example:443 HTTP/%b\r\nX: y\r\n\r\n" % version)
    assert (head.method, head.form, head.host, head.port) == ("CONNECT", "authority", "a.example", 443)


def test_pipelined_requests_come_one_by_one():
    assert [head.target for head, _ in requests_in(GOOD["length"] + GOOD["chunks"] + GOOD["get"])] == [
        "/p", "/p", "/a?b=c"]  # fmt: skip


def test_order_and_case_stay_and_what_is_for_one_connection_goes():
    head = requests_in(
        b"GET http://a.example/x HTTP/1.1\r\nuser-AGENT: x\r\nHOST: a.example\r\nProxy-Connection: keep-alive\r\n"
        b"Proxy-Authorization: Basic eA==\r\nX-Own: 1\r\nConnection: keep-alive, X-Own\r\nKeep-Alive: 5\r\n"
        b"TE: trailers\r\nUpgrade: h2c\r\nAccept:   */*  \r\nX-two: 1\r\nx-TWO: 2\r\n\r\n"
    )[0][0]
    assert head.upstream(authority="a.example") == (
        b"GET /x HTTP/1.1\r\nuser-AGENT: x\r\nHOST: a.example\r\nAccept: */*\r\nX-two: 1\r\nx-TWO: 2\r\n\r\n"
    )


def test_a_request_of_http_1_0_gets_a_host():
    head = requests_in(GOOD["old"])[0][0]
    assert not head.keep_alive
    assert head.upstream(authority="a.example", close=True) == (
        b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    )


def test_headers_and_target_can_be_replaced_but_not_the_length():
    head = requests_in(GOOD["length"])[0][0]
    secret = (*head.headers, (b"Authorization", b"Bearer x"))
    assert b"POST /q HTTP/1.1\r\n" in head.upstream(authority="a", headers=secret, target="/q")
    assert b"Authorization: Bearer x\r\n" in head.upstream(authority="a", headers=secret)
    for headers, target in (
        ((*head.headers, (b"X", b"a\r\nb: c")), None),
        ((*head.headers, (b"X y", b"a")), None),
        (((b"Host", b"a"), (b"Content-Length", b"6")), None),
        (((b"Host", b"a"),), None),
        (None, "/x y"),
        (None, "http://b/"),
    ):
        with pytest.raises(BadMessageError):
            head.upstream(authority="a", headers=headers, target=target)
    with pytest.raises(BadMessageError):
        head.upstream(authority="a\r\nX: y")


def test_an_upgrade_is_proposed_only_when_asked_for_and_bodiless():
    head = requests_in(GOOD["websocket"])[0][0]
    assert head.upgrade == "websocket"
    assert b"Upgrade" not in head.upstream(authority="a")
    assert head.upstream(authority="a", upgrade=True).endswith(b"Upgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n")
    assert request("GET", b"Upgrade: websocket").upgrade is None
    assert request("GET", b"Connection: upgrade", b"Upgrade: websocket", version=b"1.0").upgrade is None
    assert request("GET", b"Connection: upgrade", b"Upgrade: websocket, h2c").upgrade is None
    with_body = requests_in(POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi")[0][0]
    assert with_body.upgrade is None


@pytest.mark.parametrize("name", ["connect", "websocket"])
def test_what_comes_behind_a_proposal_waits_for_the_answer(name):
    for refused in (True, False):
        reader = RequestReader()
        reader.feed(GOOD[name] + GOOD["get"])
        assert isinstance(reader.next(), RequestHead)
        assert reader.next() is END
        assert reader.next() is None
        if refused:
            reader.resume()
            assert reader.next().target == "/a?b=c"
        else:
            assert reader.take_rest() == GOOD["get"]


def test_a_client_that_ends_in_the_middle_is_told_so():
    for name in ("get", "length", "chunks", "trailers"):
        for cut in range(1, len(GOOD[name])):
            with pytest.raises(BadMessageError):
                requests_in(GOOD[name][:cut], end=True)
    reader = RequestReader()
    reader.feed(GOOD["get"])
    assert [type(reader.next()) for _ in range(2)] == [RequestHead, type(END)]
    assert reader.idle and not reader.ended
    reader.feed(b"")
    assert reader.next() is None
    assert reader.ended


def test_a_piece_of_a_body_with_a_length_is_not_copied():
    reader, piece = RequestReader(), b"x" * 65536
    reader.feed(POST + b"Content-Length: 1000000\r\n\r\n")
    head = reader.next()
    assert reader.next() is None
    reader.feed(piece)
    given = reader.next()
    assert given is piece
    assert BodyWriter(head.framing).piece(given) is piece


@pytest.mark.parametrize(("data", "answer"), [
    (b"", None), (b"G", None), (b"GET", None), (b"GET ", None), (b"GET /", True), (b"GET http", None),
    (b"GET http:", True), (b"OPTIONS *", True), (b"CONNECT a", True), (b"CONNECT ", None), (b"PRI * HTTP/2.0", True),
    (b"EHLO mail", False), (b"USER x", False), (b"\x16\x03", False), (b"SSH-2.0-", False), (b"get /", False),
    (b"PROPFIND /", True), (b"A" * 40, False), (b"PING\r\n", False),
])  # fmt: skip
def test_the_first_bytes_say_whether_it_is_http(data, answer):
    assert begins_request(data) is answer


WORD = st.text("abcXYZ019-_", min_size=1, max_size=8)
VALUE = st.text('abc 019;=,\t"%äÿ', max_size=12).map(str.strip).map(lambda text: text.encode("latin-1"))


@st.composite
def whole_requests(draw):
    body = draw(st.binary(max_size=50))
    headers = draw(st.lists(st.tuples(WORD.map(lambda name: b"X-" + name.encode()), VALUE), max_size=4))
    lines = [b"%s: %s" % header for header in headers]
    lines.insert(draw(st.integers(0, len(lines))), b"Host: a.example")
    if draw(st.booleans()):
        lines.append(b"Transfer-Encoding: chunked")
        cut = draw(st.integers(0, len(body)))
        wire = b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in (body[:cut], body[cut:]) if part) + b"0\r\n\r\n"
    else:
        lines.append(b"Content-Length: %d" % len(body))
        wire = body
    method, path = draw(st.sampled_from(["POST", "PUT", "PATCH", "DELETE"])), draw(WORD)
    return b"%s /%s HTTP/1.1\r\n" % (method.encode(), path.encode()) + b"\r\n".join(lines) + b"\r\n\r\n" + wire, body


@given(st.lists(whole_requests(), min_size=1, max_size=3), st.integers(1, 60))
def test_however_requests_are_cut_they_are_the_same(messages, size):
    data = b"".join(message for message, _ in messages)
    assert [body for _, body in requests_in(data, size)] == [body for _, body in messages]
    assert requests_in(data, size) == requests_in(data)


@given(whole_requests(), st.data())
def test_whatever_is_changed_h11_and_llhttp_agree_with_what_is_accepted(message, data):
    changed = bytearray(message[0])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b" ", b"\r\n", b"\n", b"\r", b"\0", b":", b"0", b"1", b"\t", b",", b"x"])
        )
    agree(bytes(changed))


def agree(data: bytes) -> None:
    """What the door accepts as one request is one for both others, with the same body."""
    try:
        found = requests_in(data)
    except BadMessageError:
        return
    if len(found) != 1 or not data:
        return
    ((head, body),) = found
    if not _whole(data):
        return
    assert seen_by_h11(data)[0] == head.method
    assert seen_by_h11(data)[2] == body
    assert seen_by_httptools(data) is None or seen_by_httptools(data)[2] == body


def _whole(data: bytes) -> bool:
    reader = RequestReader()
    reader.feed(data)
    while reader.next() is not None:
        reader.resume()
    reader.resume()
    return reader.idle
