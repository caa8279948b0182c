"""What reaches a model is bounded, valid Unicode and plain."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.mcp import bounds


@given(st.lists(st.binary(max_size=50)), st.integers(2, 64))
def test_a_stream_keeps_its_ends_whatever_its_pieces(pieces, limit):
    kept, whole = bounds.HeadTail(limit), b"".join(pieces)
    for piece in pieces:
        kept.add(piece)
    assert kept.total == len(whole)
    assert kept.left_out == max(0, len(whole) - limit // 2 * 2)
    if not kept.left_out:
        assert kept.text() == bounds.plain(whole)


def test_what_is_missing_is_said_where_it_was():
    kept = bounds.HeadTail(8)
    for piece in (b"abc", b"def", b"x" * 1000, b"ghijkl"):
        kept.add(piece)
    assert kept.text() == "abcd\n[… 1004 bytes left out …]\nijkl"


def test_a_huge_stream_is_held_in_little():
    kept = bounds.HeadTail(1000)
    for _ in range(1000):
        kept.add(b"x" * 10_000)
    assert len(kept._head) + len(kept._tail) <= 1500 + 500


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\ttext\r\n", "plain\ttext\r\n"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07x", "x"),
        (b"\x1b]8;;address\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"a\x00b\x08", "a�b�"),
        (b"\xff", "�"),
        ("a\u202eb".encode(), "a�b"),
        (b"\x1b", ""),
        ("grüße 🦀".encode(), "grüße 🦀"),
    ],
)
def test_plain_text(data, text):
    assert bounds.plain(data) == text


@given(st.text(st.characters()), st.integers(2, 100))
def test_a_cut_text_is_always_valid(text, limit):
    bounds.cut(text + "\udc80\ud83d", limit).encode()


def test_every_string_of_an_answer_is_valid():
    value = {"a\udc80": ["\ud83d", {"b": "ok"}, 1, None, True]}
    json.dumps(bounds.scrub(value), ensure_ascii=False).encode()


@pytest.mark.parametrize(("name", "shown"), [("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("a\u202eb", "a\\u202eb")])
def test_a_name_stays_on_its_line(name, shown):
    assert bounds.one_line(name) == shown


def test_both_takers_get_everything():
    first, second = [], []
    bounds.of_text(bounds.both(first.append, second.append))("é\udc80")
    assert first == second == ["é\udc80".encode("utf-8", "surrogatepass")]
