"""A loop that is refused costs two lines in ten seconds, and nothing of what happened is lost in the sum."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.egress.auditing.repeats import MAX_OF_SANDBOX, WINDOW_SECONDS, Repeats
from cloche.model.egress import AuditLine


def denied(host: str = "a.example", at: float = 0.0, sandbox: str = "sb_1", **more) -> AuditLine:
    fields = {"via": "proxy", "verdict": "denied", "port": 443, "rule": "default", **more}
    return AuditLine(time=at, sandbox_id=sandbox, host=host, **fields)


def test_the_first_is_written_at_once_and_the_others_together():
    repeats = Repeats()
    assert repeats.offer(denied(at=100.0), 0.0) == denied(at=100.0)
    assert [repeats.offer(denied(at=100.0 + number), number) for number in range(1, 5)] == [None] * 4
    assert repeats.due(9.9) == []
    assert repeats.next_due() == WINDOW_SECONDS
    assert repeats.due(10.0) == [denied(at=101.0, repeated=3)]
    assert repeats.next_due() is None
    assert repeats.offer(denied(at=111.0), 11.0) is not None


def test_one_alone_gets_no_second_line():
    repeats = Repeats()
    repeats.offer(denied(), 0.0)
    assert repeats.due(20.0) == []


def test_a_window_that_nobody_looked_at_ends_with_the_next_of_its_kind():
    repeats = Repeats()
    repeats.offer(denied(at=1.0), 0.0)
    repeats.offer(denied(at=2.0), 1.0)
    assert repeats.offer(denied(at=30.0), 30.0) == denied(at=30.0)
    assert repeats.next_due() == 0.0
    assert repeats.due(30.0) == [denied(at=2.0, repeated=0)]


def test_what_differs_is_not_merged():
    repeats = Repeats()
    different = [
        denied(),
        denied("b.example"),
        denied(port=80),
        denied(rule="rule 1 (deny *)"),
        denied(sandbox="sb_2"),
        denied(method="GET", path="/a"),
        denied(method="GET", path="/b"),
        denied(verdict="failed"),
        denied(via="dns"),
    ]
    assert [repeats.offer(line, 0.0) for line in different] == different


def test_what_was_allowed_is_always_written():
    repeats = Repeats()
    line = denied(verdict="allowed")
    assert [repeats.offer(line, 0.0) for _ in range(3)] == [line] * 3
    moved = denied(verdict="revoked", sent_bytes=5)
    assert [repeats.offer(moved, 0.0) for _ in range(3)] == [moved] * 3


def test_a_sandbox_that_tries_other_names_all_the_time_fills_no_log():
    repeats = Repeats()
    names = [f"h{number}.example" for number in range(MAX_OF_SANDBOX + 1000)]
    written = [line for name in names if (line := repeats.offer(denied(name), 0.0))]
    assert len(written) == MAX_OF_SANDBOX + 1
    assert repeats.offer(denied("other.example", sandbox="sb_2"), 0.0) is not None
    (rest,) = repeats.flush()
    assert (rest.host, rest.verdict, rest.repeated) == ("*", "denied", 998)
    assert repeats.offer(denied("h1.example"), 20.0) is not None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 8), st.sampled_from(["denied", "allowed"])), max_size=60)
)
def test_nothing_is_lost_in_the_sum(events):
    repeats, now, written = Repeats(), 0.0, []
    for host, pause, verdict in events:
        now += pause
        line = repeats.offer(denied(host, verdict=verdict), now)
        written += [line] if line else []
        written += repeats.due(now)
        due = repeats.next_due()
        assert due is None or due > now
    written += repeats.flush()
    assert sum(1 + line.repeated for line in written) == len(events)
    assert repeats.flush() == [] and repeats.next_due() is None
