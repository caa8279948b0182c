from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.egress.held import Held, Share
from cloche.egress.hooks import LimitHit


def test_a_share_is_what_its_connection_has_now() -> None:
    held = Held(100)
    one, two = Share(held), Share(held)
    one.hold(60)
    two.hold(40)
    assert not held.has_room(1)
    one.hold(20)
    assert held.bytes == 60 and held.has_room(40)
    one.release()
    two.release()
    assert (held.bytes, held.most) == (0, 100)


def test_beyond_the_bound_nothing_is_added() -> None:
    held = Held(100)
    one, two = Share(held), Share(held)
    one.hold(60)
    with pytest.raises(LimitHit) as hit:
        two.hold(41)
    assert hit.value.limit == "held_bytes" and held.bytes == 60
    # less is always possible
    one.hold(59)
    two.release()
    assert held.bytes == 59


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60)), max_size=60))
def test_it_is_the_sum_of_all_and_never_more_than_the_bound(steps: list[tuple[int, int]]) -> None:
    held = Held(100)
    shares = [Share(held) for _ in range(5)]
    for number, count in steps:
        try:
            shares[number].hold(count)
        except LimitHit:
            pass
        assert held.bytes == sum(share.bytes for share in shares) <= 100
    for share in shares:
        share.release()
    assert held.bytes == 0
