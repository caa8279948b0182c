from __future__ import annotations

import pytest

from cloche.egress.budget import MAX_CONNECTIONS, Budget, TokenBucket
from cloche.egress.hooks import LimitHit
from cloche.model.egress import EgressBudget, EgressCounters


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def budget(clock: Clock | None = None, sent: int = 0, received: int = 0, **limits: int) -> Budget:
    counted = EgressCounters(sent_bytes=sent, received_bytes=received)
    return Budget(EgressBudget(**limits), counted, clock or Clock())


def hit(step: object) -> str:
    with pytest.raises(LimitHit) as caught:
        step()  # type: ignore[operator]
    return caught.value.limit


def test_nothing_bounds_an_empty_one() -> None:
    free = budget()
    assert free.room(1 << 20, sending=True) == 1 << 20
    free.took(1 << 40, sending=True)
    assert free.room(1, sending=True) == 1
    assert free.sent == 1 << 40
    assert free.debt() == 0.0


def test_bytes_count_over_the_life_of_the_sandbox() -> None:
    used = budget(sent=90, bytes_out=100, bytes_in=10)
    assert used.room(64, sending=True) == 10
    used.took(10, sending=True)
    assert hit(lambda: used.room(1, sending=True)) == "bytes_out"
    assert used.room(64, sending=False) == 10
    assert hit(used.check) == "bytes_out"


def test_spending_is_all_or_nothing() -> None:
    used = budget(bytes_in=10)
    used.spend(9, sending=False)
    assert hit(lambda: used.spend(2, sending=False)) == "bytes_in"
    used.spend(1, sending=False)
    assert used.received == 10


def test_connections_at_once() -> None:
    two = budget(connections=2)
    two.connect()
    two.connect()
    assert hit(two.connect) == "connections"
    two.disconnect()
    two.connect()
    assert two.open == 2


def test_the_doors_own_bound_holds_without_a_policys() -> None:
    free = budget(connections=10 * MAX_CONNECTIONS)
    for _ in range(MAX_CONNECTIONS):
        free.connect()
    assert hit(free.connect) == "connections"


def test_connections_in_any_minute() -> None:
    clock = Clock()
    slow = budget(clock, connections_per_minute=10)
    for _ in range(10):
        slow.connect()
    assert hit(slow.connect) == "connections_per_minute"
    clock.now += 60
    # the minute before counts as far as it overlaps
    assert hit(slow.connect) == "connections_per_minute"
    clock.now += 30
    for _ in range(5):
        slow.connect()
    assert hit(slow.connect) == "connections_per_minute"
    clock.now += 3600
    for _ in range(10):
        slow.connect()


def test_a_refused_connection_does_not_count() -> None:
    clock = Clock()
    one = budget(clock, connections=1, connections_per_minute=5)
    one.connect()
    for _ in range(10):
        assert hit(one.connect) == "connections"
    one.disconnect()
    one.connect()


def test_a_rate_gives_room_by_and_by() -> None:
    clock = Clock()
    slow = budget(clock, bytes_per_second=1_000_000)
    burst = slow.room(1 << 30, sending=True)
    assert burst == 250_000
    slow.took(burst, sending=True)
    assert slow.room(1, sending=False) == 0
    assert 0.005 <= slow.delay() < 0.1
    clock.now += 0.1
    assert slow.room(1 << 30, sending=False) == 100_000


def test_a_few_bytes_are_not_worth_a_turn() -> None:
    clock = Clock()
    slow = budget(clock, bytes_per_second=100_000)
    slow.took(slow.room(1 << 30, sending=True), sending=True)
    clock.now += 0.001
    assert slow.room(1 << 30, sending=True) == 0
    clock.now += slow.delay()
    assert slow.room(1 << 30, sending=True) >= 8 << 10


def test_over_a_long_time_the_rate_holds() -> None:
    clock = Clock()
    slow = budget(clock, bytes_per_second=10_000)
    moved = 0
    while clock.now < 1100:
        room = slow.room(1 << 18, sending=True)
        slow.took(room, sending=True)
        moved += room
        clock.now += slow.delay() if not room else 0
    assert moved <= 10_000 * 100 + (16 << 10)
    assert moved >= 10_000 * 99


def test_what_was_spent_at_once_is_paid_for_later() -> None:
    clock = Clock()
    slow = budget(clock, bytes_per_second=100_000)
    slow.spend(125_000, sending=True)
    assert slow.debt() == pytest.approx(1.0)
    clock.now += 1
    assert slow.debt() == 0.0


def test_new_limits_hold_at_once() -> None:
    changed = budget()
    changed.took(100, sending=True)
    changed.limit(EgressBudget(bytes_out=100))
    assert hit(lambda: changed.room(1, sending=True)) == "bytes_out"
    changed.limit(EgressBudget())
    assert changed.room(1, sending=True) == 1


def test_a_rate_of_zero_is_slow_and_no_fault() -> None:
    assert budget(bytes_per_second=0).delay() >= 0


def test_a_bucket_is_never_more_than_full() -> None:
    bucket = TokenBucket(10, 5, 0.0)
    assert bucket.available(1000.0) == 5
    bucket.take(7)
    assert bucket.available(1000.0) == -2
    assert bucket.delay(3) == pytest.approx(0.5)


def test_pieces_of_bodies_are_the_smaller_the_more_connections_are_open() -> None:
    many = budget()
    pieces = [many.piece_bytes()]
    for _ in range(MAX_CONNECTIONS):
        many.connect()
        pieces.append(many.piece_bytes())
    assert pieces[0] == 256 << 10 and pieces[-1] == 16 << 10 and pieces == sorted(pieces, reverse=True)
    assert max(2 * count * piece for count, piece in enumerate(pieces)) <= 64 << 20
