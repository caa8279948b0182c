from hypothesis import given
from hypothesis import strategies as st

from cloche.model.ids import UlidMaker, encode, is_id_prefix, is_sandbox_id, new_sandbox_id


def test_ids_are_what_they_say_they_are():
    made = new_sandbox_id()
    assert is_sandbox_id(made) and len(made) == 29
    assert is_id_prefix(made) and is_id_prefix(made[:7]) and not is_id_prefix(made[:6])
    assert not is_sandbox_id(made.upper()) and not is_id_prefix("01aaaa") and not is_id_prefix("sb_01aa%")


@given(st.lists(st.integers(0, (1 << 48) - 1), min_size=2))
def test_ids_grow_even_when_the_clock_goes_back(times):
    maker = UlidMaker()
    made = [maker.next(milliseconds) for milliseconds in times]
    assert made == sorted(set(made))


@given(st.integers(0, (1 << 128) - 1), st.integers(0, (1 << 128) - 1))
def test_the_order_of_texts_is_the_order_of_numbers(one, two):
    assert (encode(one) < encode(two)) == (one < two)
