"""No sandbox fills more of the log than its share, and what is summed up is the truth."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.egress.auditing.audit import encode_line
from cloche.egress.auditing.shares import (
    BYTES_AT_ONCE,
    MANY,
    MAX_APART,
    MAX_KINDS,
    MAX_SANDBOXES,
    SUM_SECONDS,
    Shares,
)
from cloche.model.egress import AuditLine


def allowed(at: float = 0.0, sandbox: str = "sb_1", **more) -> AuditLine:
    fields = {"via": "proxy", "verdict": "allowed", "host": "a.example", "port": 443, "rule": "rule 1", **more}
    return AuditLine(time=at, sandbox_id=sandbox, **fields)


def filled(shares: Shares, sandbox: str = "sb_1") -> AuditLine:
    """Until nothing goes through; the first line that does not."""
    for _ in range(BYTES_AT_ONCE):
        line = allowed(sandbox=sandbox, sent_bytes=1, received_bytes=2)
        if shares.offer(line, 0.0) is None:
            return line
    raise AssertionError("its share has no end")


def test_a_sandbox_has_its_lines_one_by_one():
    shares = Shares()
    lines = [allowed(float(number), path=f"/{number}") for number in range(3000)]
    assert [shares.offer(line, 0.0) for line in lines] == lines
    assert shares.next_due() is None and shares.flush() == []


def test_what_is_over_its_share_becomes_one_line_of_its_kind():
    shares = Shares()
    filled(shares)
    for number in range(9):
        line = allowed(10.0 + number, sent_bytes=10, received_bytes=20, duration_seconds=2.0, path=f"/{number}")
        assert shares.offer(line, 1.0) is None
    assert shares.due(SUM_SECONDS - 0.1) == []
    assert shares.next_due() == SUM_SECONDS
    (line,) = shares.due(SUM_SECONDS)
    assert (line.repeated, line.sent_bytes, line.received_bytes) == (9, 91, 182)
    # the first of them was the last of those that filled it
    assert (line.time, line.duration_seconds, line.path, line.host) == (0.0, 20.0, "", "a.example")
    assert shares.next_due() is None


@pytest.mark.parametrize("process", ["python3", "\x01" * 512, "\U0001f40d" * 512, "\ud800"])
def test_a_share_is_of_bytes_as_they_are_written(process):
    shares, written = Shares(), 0
    line = allowed(process=process, path="/" + "\x1b" * 100)
    while shares.offer(line, 0.0) is not None:
        written += len(encode_line(line))
    assert 0 < written <= BYTES_AT_ONCE + len(encode_line(line))


def test_another_sandbox_does_not_notice():
    shares = Shares()
    filled(shares)
    line = allowed(sandbox="sb_2")
    assert shares.offer(line, 0.0) == line


def test_its_share_comes_back():
    shares = Shares()
    filled(shares)
    shares.due(SUM_SECONDS)
    assert shares.offer(allowed(), SUM_SECONDS + 1.0) is not None


def test_what_was_allowed_does_not_hide_what_was_denied():
    shares = Shares()
    filled(shares)
    for number in range(5 * MAX_KINDS):
        shares.offer(allowed(host=f"h{number}.example", sent_bytes=1), 0.0)
    shares.offer(allowed(verdict="denied", host="secret.example"), 0.0)
    lines = shares.flush()
    assert [line.host for line in lines if line.verdict == "denied"] == ["secret.example"]
    (rest,) = [line for line in lines if line.reason.startswith(MANY)]
    assert rest.project_id == "default"
    assert (rest.host, rest.repeated, rest.sent_bytes) == ("*", 4 * MAX_KINDS, 4 * MAX_KINDS + 1)


def test_who_was_sent_the_most_is_not_hidden_by_many_others():
    shares = Shares()
    filled(shares)
    for number in range(5 * MAX_APART):
        shares.offer(allowed(host=f"h{number}.example", sent_bytes=300), 0.0)
        shares.offer(allowed(host="taker.example", sent_bytes=200), 0.0)
    named = {line.host: line.sent_bytes for line in shares.flush()}
    assert len(named) == MAX_KINDS + 1
    # what it was sent before there were others enough may be among them
    assert named["taker.example"] >= 200 * 4 * MAX_APART


def test_of_many_the_hosts_are_named():
    shares = Shares()
    filled(shares)
    for number in range(MAX_KINDS + 4):
        shares.offer(allowed(host=f"h{number}.example", sent_bytes=1000 - number), 0.0)
    (rest,) = [line for line in shares.flush() if line.host == "*"]
    assert rest.reason == f"{MANY}: h8.example, h9.example, h10.example, h11.example, a.example"


def test_the_names_of_many_have_an_end():
    shares = Shares()
    filled(shares)
    for number in range(MAX_APART):
        shares.offer(allowed(host=f"{number}.".ljust(253, "a")), 0.0)
    (rest,) = [line for line in shares.flush() if line.host == "*"]
    assert len(rest.reason) < 700 and rest.reason.endswith("…")


def test_fields_that_differ_are_left_out():
    shares = Shares()
    filled(shares)
    first = allowed(verdict="denied", process="curl", pid=5, reason="no rule allows it", address="192.0.2.1")
    other = allowed(verdict="denied", process="wget", pid=6, reason="no rule allows it")
    shares.offer(msgspec.structs.replace(first, sandbox="old"), 0.0)
    shares.offer(msgspec.structs.replace(other, sandbox="new"), 0.0)
    line = next(line for line in shares.flush() if line.verdict == "denied")
    assert (line.process, line.pid, line.sandbox, line.address, line.reason) == ("", 0, None, "", "no rule allows it")


def test_one_sandbox_takes_a_day_to_turn_the_log_over():
    """The log has 128 MiB. Every second it does all that it can, with texts as long as they may be."""
    shares, written, hours = Shares(), 0, 3
    texts = {"path": "/" * 2048, "reason": "r" * 2048, "process": "p" * 256, "rule": "r" * 200, "method": "M" * 64}
    for second in range(hours * 3600):
        for number in range(200 if second % 60 == 0 else 2):
            verdict = ("allowed", "denied", "failed", "limit", "revoked")[number % 5]
            host = f"{second}-{number}.".ljust(253, "a")
            line = AuditLine(time=second, sandbox_id="sb_1", via="proxy", verdict=verdict, host=host, port=443, **texts)
            kept = shares.offer(line, float(second))
            written += len(encode_line(kept)) if kept else 0
        written += sum(len(encode_line(line)) for line in shares.due(float(second)))
    per_hour = (written - BYTES_AT_ONCE) / hours
    assert (128 << 20) / per_hour > 20


def test_only_so_many_sandboxes_are_known():
    shares = Shares()
    line = filled(shares, "sb_busy")
    for number in range(2 * MAX_SANDBOXES):
        shares.offer(allowed(sandbox=f"sb_{number}"), 0.0)
    assert len(shares._shares) <= MAX_SANDBOXES
    assert shares.offer(line, 0.0) is None
    assert sum(1 + each.repeated for each in shares.flush()) == 2


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["allowed", "denied", "failed"]), st.integers(0, 40), st.integers(0, 9), st.floats(0, 30)
        ),
        max_size=200,
    )
)
def test_nothing_is_lost_in_the_sums(events):
    shares, now, written = Shares(), 0.0, []
    filled(shares)
    offered: Counter[str] = Counter()
    for verdict, host, size, pause in events:
        now += pause
        line = allowed(
            now, verdict=verdict, host=f"h{host}.example", sent_bytes=size, received_bytes=2 * size, repeated=size
        )
        offered[verdict] += 1 + size
        kept = shares.offer(line, now)
        written += ([kept] if kept else []) + shares.due(now)
        due = shares.next_due()
        assert due is None or due > now
    written += shares.flush()
    told: Counter[str] = Counter()
    for line in written:
        told[line.verdict] += 1 + line.repeated
    assert told - Counter(allowed=1) == offered
    assert sum(line.sent_bytes for line in written) == 1 + sum(size for _, _, size, _ in events)
    assert sum(line.received_bytes for line in written) == 2 + 2 * sum(size for _, _, size, _ in events)
    assert all(line.duration_seconds >= 0 for line in written)
    assert shares.flush() == [] and shares.next_due() is None
