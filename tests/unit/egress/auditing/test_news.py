from __future__ import annotations

from cloche.egress.auditing.news import EVENTS_PER_SECOND, MAX_KNOWN, EventPace, SameAgain


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_is_told_again_after_a_while() -> None:
    clock = Clock()
    same = SameAgain(clock)
    assert [same.is_new("a"), same.is_new("a"), same.is_new("b")] == [True, False, True]
    clock.now += 10
    assert same.is_new("a")


def test_it_remembers_only_so_many() -> None:
    same = SameAgain(Clock())
    assert all(same.is_new(number) for number in range(10 * MAX_KNOWN))
    assert len(same._told) == MAX_KNOWN


def test_events_have_a_pace() -> None:
    clock = Clock()
    pace = EventPace(clock)
    assert [pace.admits() for _ in range(EVENTS_PER_SECOND + 5)].count(True) == EVENTS_PER_SECOND
    clock.now += 0.5
    assert [pace.admits() for _ in range(EVENTS_PER_SECOND)].count(True) == EVENTS_PER_SECOND // 2
