"""Many secrets at once: what the quick way finds is what a slow and obvious one finds, however a body is cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.egress.messages import GivenSecret
from cloche.egress.secrecy.redaction import RedactedStream, Redaction, mask
from cloche.egress.secrecy.sieve import Sieve
from cloche.model.egress import Secret

#: few letters, so that values overlap, repeat and begin alike
VALUES = st.text("ab/", min_size=8, max_size=60)
PIECES = st.lists(st.one_of(st.text("ab/", max_size=70), st.text("abcdef=", max_size=9)), max_size=12)


def secrets_of(values: list[str]) -> list[GivenSecret]:
    return [
        GivenSecret(secret=Secret(name=f"S{number}", hosts=["a.example"]), placeholder="p", value=value)
        for number, value in enumerate(values)
    ]


def obvious(redaction: Redaction, text: bytes) -> bytes:
    """The leftmost first, and the longest of those that begin together."""
    names = redaction._names
    pattern = re.compile(b"|".join(re.escape(form) for form in sorted(names, key=len, reverse=True)))
    return pattern.sub(lambda found: mask(names[found.group()], len(found.group())), text)


@given(st.lists(VALUES, min_size=1, max_size=24, unique=True), PIECES, st.data())
def test_it_is_what_the_obvious_way_does(values, pieces, data):
    redaction = Redaction(secrets_of(values))
    planted = [data.draw(st.sampled_from([*values, piece])) for piece in pieces]
    text = "".join(planted).encode()
    assert redaction.whole(text) == obvious(redaction, text)


@given(st.lists(VALUES, min_size=1, max_size=24, unique=True), PIECES, st.data())
def test_no_value_gets_through_in_pieces(values, pieces, data):
    stream = RedactedStream(Redaction(secrets_of(values)))
    text = "".join(data.draw(st.sampled_from([*values, piece])) for piece in pieces).encode()
    out, rest = b"", text
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        out += stream.piece(rest[:cut])
        rest = rest[cut:]
    out += stream.end()
    assert len(out) == len(text)
    assert not any(value.encode() in out for value in values)


@pytest.mark.parametrize("length", [8, 22, 23, 38, 39, 40, 64])
def test_a_text_is_found_wherever_it_stands(length):
    texts = [bytes([65 + number]) * 3 + bytes(range(97, 97 + 26)) * 3 for number in range(20)]
    texts = [text[:length] for text in texts]
    sieve = Sieve(texts)
    for before in range(70):
        for behind in (0, 1, 7, 8, 33):
            assert sieve.found(b"." * before + texts[7] + b"." * behind) == [texts[7]]
    assert sieve.found(b"." * 1000) == [] and sieve.found(b"") == []


@given(
    st.lists(st.binary(min_size=1, max_size=80), max_size=40, unique=True), st.lists(st.binary(max_size=50)), st.data()
)
def test_the_sieve_finds_what_is_there(texts, around, data):
    parts = [data.draw(st.sampled_from([*texts, part])) for part in around]
    text = b"".join(parts)
    assert sorted(Sieve(texts).found(text)) == sorted(each for each in texts if each in text)
