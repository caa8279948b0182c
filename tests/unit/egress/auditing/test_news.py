from __future__ import annotations

import asyncio

from cloche.egress.auditing.news import EVENTS_PER_SECOND, LINES_AT_ONCE, MAX_KNOWN, EventPace, Lines, SameAgain
from cloche.model.egress import AuditLine


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Sink(list[AuditLine]):
    def write(self, line: AuditLine) -> None:
        self.append(line)


def line(host: str) -> AuditLine:
    return AuditLine(time=1.0, sandbox_id="sb_1", via="dns", verdict="denied", host=host)


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


def test_too_many_lines_share_one() -> None:
    async def test() -> Sink:
        sink = Sink()
        lines = Lines(sink)
        for number in range(3 * LINES_AT_ONCE):
            lines.write(line(f"h{number}.test"))
        lines.close()
        lines.close()
        return sink

    sink = asyncio.run(test())
    assert sum(1 + each.repeated for each in sink) == 3 * LINES_AT_ONCE
    assert sink[-1].host == f"h{3 * LINES_AT_ONCE - 1}.test"
    # the clock goes on while it writes
    assert LINES_AT_ONCE < len(sink) < 2 * LINES_AT_ONCE
