"""Keys, and a terminal that is put back whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.cli.screen import keys


@pytest.mark.parametrize(
    ("typed", "pressed", "rest"),
    [
        ("qé漢", ["q", "é", "漢"], ""),
        ("\x1b[A\x1bOB\x1b[C\x1b[D", ["up", "down", "right", "left"], ""),
        ("\x1b[H\x1b[4~\x1b[5~\x1b[6~", ["home", "end", "page up", "page down"], ""),
        ("\r\n\x7f\t\x15", ["enter", "enter", "backspace", "tab", "ctrl-u"], ""),
        ("\x1b", [], "\x1b"),
        ("a\x1b[", ["a"], "\x1b["),
        ("\x1b[1;5A\x1b[200~x", ["x"], ""),
        ("\x1bx", ["escape", "x"], ""),
        ("\x1b\x1b[A", ["escape", "up"], ""),
        ("\x00\x01\x0c", ["ctrl-l"], ""),
        ("\x1b[" + "1;" * 40, [], ""),
    ],
)
def test_keys(typed: str, pressed: list[str], rest: str) -> None:
    assert keys(typed) == (pressed, rest)


@given(st.text(alphabet="\x1b[O;1A~q\x00é"))
def test_any_input_is_taken_in_pieces_as_a_whole(typed: str) -> None:
    pressed, rest = [], ""
    for letter in typed:
        more, rest = keys(rest + letter)
        pressed += more
    whole, left = keys(typed)
    assert len(rest) <= 32
    if len(typed) < 30:
        assert (pressed, rest) == (whole, left)
