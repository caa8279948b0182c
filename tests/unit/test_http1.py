"""What the client's half of HTTP/1.1 makes of every way in which an answer can be cut, wrong or hostile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.http1 import MAX_HEAD_BYTES, MAX_HEADERS, Answer, BodyFraming, ProtocolError, request_head

ANSWERS = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX: y\r\n\r\nhello world", 200, b"hello world", True),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;e=1\r\nhello\r\n6\r\n world\r\n0\r\nT: t\r\n\r\n",
        200, b"hello world", True,
    ),
    "empty": (b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", 404, b"", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, b"", True),
    "closing": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "hints": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nContent-Length: 9\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 201 Made\r\nContent-Length: 2\r\n\r\nhi", 201, b"hi", True,
    ),
}  # fmt: skip


def fed(*pieces: bytes, may_upgrade: bool = False) -> tuple[Answer, bytes]:
    answer, body = Answer(may_upgrade=may_upgrade), b""
    for piece in pieces:
        answer.feed(piece)
        body += answer.take()
    return answer, body


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_in_one_piece(name: str) -> None:
    data, status, expected, reusable = ANSWERS[name]
    answer, body = fed(data)
    assert (answer.status, body, answer.complete, answer.reusable) == (status, expected, True, reusable)


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_cut_at_every_byte(name: str) -> None:
    data, status, expected, _ = ANSWERS[name]
    for at in range(1, len(data)):
        begun, first = fed(data[:at])
        assert not begun.complete and not begun.reusable
        assert expected.startswith(first)
        begun.feed(data[at:])
        assert (begun.status, first + begun.take(), begun.complete) == (status, expected, True)


@given(st.sampled_from(sorted(ANSWERS)), st.lists(st.integers(1, 40), max_size=60))
def test_answers_in_any_pieces(name: str, sizes: list[int]) -> None:
    data, status, expected, reusable = ANSWERS[name]
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    answer, body = fed(*(piece for piece in [*pieces, data] if piece))
    assert (answer.status, body, answer.complete, answer.reusable) == (status, expected, True, reusable)


@given(st.binary(min_size=1, max_size=100))
def test_what_comes_behind_an_answer_ends_the_connection_only(garbage: bytes) -> None:
    data, status, expected, _ = ANSWERS["length"]
    answer, body = fed(data + b"x" + garbage)
    assert (answer.status, body, answer.complete, answer.reusable) == (status, expected, True, False)


def test_a_second_answer_that_nobody_asked_for() -> None:
    data = ANSWERS["length"][0]
    answer, body = fed(data + data)
    assert (body, answer.complete, answer.reusable) == (b"hello world", True, False)


@given(st.binary(max_size=400))
def test_any_bytes_are_an_answer_or_an_error(data: bytes) -> None:
    try:
        answer, _ = fed(data)
    except ProtocolError:
        return
    assert not answer.complete or answer.status >= 200


def test_names_come_in_lower_case_and_trailers_not_at_all() -> None:
    answer, _ = fed(ANSWERS["chunks"][0])
    assert answer.headers == [(b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"x%d: y\r\n" % number for number in range(MAX_HEADERS + 1)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * MAX_HEAD_BYTES + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"e" * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: " + b"y" * MAX_HEAD_BYTES,
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1 << 20, 1000])
def test_what_is_no_answer(data: bytes, size: int) -> None:
    with pytest.raises(ProtocolError):
        fed(*(data[at : at + size] for at in range(0, len(data), size)))


def test_an_upgrade_keeps_what_came_with_it() -> None:
    head = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: cloche-stream\r\n\r\n"
    answer, _ = fed(head + b"early", may_upgrade=True)
    assert (answer.status, answer.complete, answer.reusable, answer.leading) == (101, True, False, b"early")
    with pytest.raises(ProtocolError):
        fed(b"HTTP/1.1 101 X\r\n\r\n", may_upgrade=True)


def test_a_long_body_is_no_long_head() -> None:
    answer, body = fed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", *[b"x" * 100_000] * 10)
    assert answer.complete and len(body) == 1_000_000


def test_a_request_head() -> None:
    head = request_head("GET", b"/a?b=c", [(b"Host", b"x"), (b"A", b"")])
    assert head == b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nA: \r\n\r\n"


@pytest.mark.parametrize(
    ("target", "header"),
    [
        (b"", (b"A", b"b")),
        (b"/a b", (b"A", b"b")),
        (b"/a\r\nB: c", (b"A", b"b")),
        (b"/\xff", (b"A", b"b")),
        (b"/", (b"A\r\nB", b"c")),
        (b"/", (b"A", b"b\r\nC: d")),
        (b"/", (b"A", b"b\0")),
        (b"/", (b"", b"b")),
    ],
)
def test_a_head_cannot_be_smuggled_into(target: bytes, header: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError):
        request_head("GET", target, [header])


def test_bodies_are_written_in_chunks_or_to_their_length() -> None:
    chunks = BodyFraming(None)
    assert chunks.piece(b"hello") + chunks.piece(b"") + chunks.end() == b"5\r\nhello\r\n0\r\n\r\n"
    exact = BodyFraming(3)
    assert exact.piece(b"ab") + exact.piece(b"c") + exact.end() == b"abc"
    with pytest.raises(ValueError):
        exact.piece(b"d")
    with pytest.raises(ValueError):
        BodyFraming(1).end()


def test_an_interrupt_that_falls_into_the_parser_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Answer, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Answer, "on_body", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Answer().feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
