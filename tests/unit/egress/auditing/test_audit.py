"""The audit log: written without waiting, rotated, read from its end, whatever happened to its files."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.egress.auditing import audit, audit_reader
from cloche.egress.auditing.audit import AuditWriter, encode_line, read_audit
from cloche.model.egress import AuditLine, AuditQuery


def line(number: int = 0, **more) -> AuditLine:
    fields = {"sandbox_id": "sb_1", "via": "proxy", "verdict": "allowed", "host": f"h{number}.example", **more}
    return AuditLine(time=1000.0 + number, **fields)


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path / "audit")


def written(directory: str, lines: list[AuditLine], **how) -> AuditWriter:
    writer = AuditWriter(directory, **how)
    for item in lines:
        writer.write(item)
    writer.close(20.0)
    return writer


def read(directory: str, **query) -> list[AuditLine]:
    return read_audit(directory, AuditQuery(**query)).lines


def test_what_is_written_is_read_oldest_first(directory):
    lines = [line(number) for number in range(5)]
    assert written(directory, lines).dropped == 0
    assert read(directory) == lines
    assert read(directory, limit=2) == lines[-2:]
    assert read(directory, limit=0) == []


def test_nobody_else_reads_it(directory):
    written(directory, [line()])
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(f"{directory}/{audit_reader.FILE}").st_mode) == 0o600


def test_no_log_is_an_empty_page(directory):
    page = read_audit(directory, AuditQuery())
    assert (page.lines, page.dropped) == ([], 0)


def test_queries(directory):
    lines = [
        line(0),
        line(1, verdict="denied", host="a.example", sandbox_id="sb_2"),
        line(2, verdict="failed", host="b.a.example"),
        line(3, host="a.example", duration_seconds=10.0),
    ]
    written(directory, lines)
    assert read(directory, sandbox_id="sb_2") == [lines[1]]
    assert read(directory, verdicts=["denied", "failed"]) == lines[1:3]
    assert read(directory, host="A.example.") == [lines[1], lines[3]]
    assert read(directory, host="**.example") == lines
    assert read(directory, host="*.a.example") == [lines[2]]
    assert read(directory, host="not a name") == []
    assert read(directory, since=1002.0) == lines[2:]
    assert read(directory, since=1005.0) == [lines[3]], "it ended after that"
    assert read(directory, since=1005.0, verdicts=["denied"]) == []
    assert read(directory, limit=1, sandbox_id="sb_1", verdicts=["allowed"]) == [lines[3]]


def test_a_project_sees_its_own_lines(directory):
    lines = [line(0), line(1, project_id="other"), line(2, sandbox_id="sb_2")]
    written(directory, lines)
    found = {name: read_audit(directory, AuditQuery(project_id=name)).lines for name in ("default", "other", "third")}
    assert found == {"default": [lines[0], lines[2]], "other": [lines[1]], "third": []}
    assert read_audit(directory, AuditQuery()).lines == lines


def test_repeats_are_merged(directory):
    same = line(verdict="denied")
    written(directory, [same] * 10)
    assert [item.repeated for item in read(directory)] == [0, 8]


def test_files_are_rotated_and_the_oldest_goes(directory):
    lines = [line(number) for number in range(400)]
    for start in range(0, 400, 4):
        written(directory, lines[start : start + 4], max_bytes=2000, files=4)
    names = sorted(os.listdir(directory))
    assert names == ["egress.jsonl", "egress.jsonl.1", "egress.jsonl.2", "egress.jsonl.3"]
    for name in names:
        assert os.stat(f"{directory}/{name}").st_size < 2000 + 4 * 200
    found = read(directory)
    assert found == lines[-len(found) :] and len(found) > 40


def test_a_batch_larger_than_a_file_is_split(directory):
    lines = [line(number) for number in range(300)]
    written(directory, lines, max_bytes=3000, files=64)
    assert max(os.stat(f"{directory}/{name}").st_size for name in os.listdir(directory)) < 4000
    assert read(directory) == lines


def test_a_line_that_was_not_finished_is_passed_over(directory):
    written(directory, [line(0)])
    with open(f"{directory}/egress.jsonl", "ab") as file:
        file.write(b'{"time": 5.0, "sandbox')
    assert read(directory) == [line(0)]
    written(directory, [line(1)])
    assert read(directory) == [line(0), line(1)]


def test_foreign_lines_are_passed_over(directory):
    written(directory, [line(0)])
    with open(f"{directory}/egress.jsonl", "ab") as file:
        file.write(b'\n{}\n[]\n\xff\xfe\nnull\n{"time": "x"}\n' + b"x" * 3_000_000 + b"\n")
    written(directory, [line(1)])
    assert read(directory) == [line(0), line(1)]


def test_a_file_without_any_line_ends(directory):
    os.makedirs(directory)
    with open(f"{directory}/egress.jsonl", "wb") as file:
        file.write(b"x" * 2_000_000)
    assert read(directory) == []


def test_a_link_in_its_place_is_not_followed(directory, tmp_path):
    os.makedirs(directory)
    target = tmp_path / "target"
    target.write_text("mine\n")
    os.symlink(target, f"{directory}/egress.jsonl")
    assert written(directory, [line(0)]).dropped == 1
    assert target.read_text() == "mine\n"
    assert read(directory) == []


def test_a_log_that_somebody_took_away_is_begun_anew(directory):
    writer = AuditWriter(directory)
    writer.write(line(0))
    wait_for(lambda: len(read(directory)) == 1)
    os.rename(f"{directory}/egress.jsonl", f"{directory}/taken")
    writer.write(line(1))
    writer.close(20.0)
    assert read(directory) == [line(1)]


def wait_for(holds) -> None:
    ready = threading.Event()
    for _ in range(10_000):
        if holds():
            return
        ready.wait(0.002)
    raise AssertionError("it never came to be")


@pytest.fixture
def stuck(directory, monkeypatch):
    """A disk that takes nothing before it is told to: (the writer, the event that tells it)."""
    taken, go_on = threading.Event(), threading.Event()
    real = os.write

    def slow(fd: int, data: bytes) -> int:
        taken.set()
        assert go_on.wait(60)
        return real(fd, data)

    monkeypatch.setattr(audit.os, "write", slow)
    writer = AuditWriter(directory, queue=8)
    writer.write(line(0))
    assert taken.wait(60)
    yield writer, go_on
    go_on.set()
    writer.close(20.0)


def test_a_full_queue_drops_and_counts(directory, stuck):
    writer, go_on = stuck
    for number in range(1, 16):
        writer.write(line(number, sandbox_id=f"sb_{number}"))
    assert writer.dropped == 7
    go_on.set()
    writer.close(20.0)
    page = read_audit(directory, AuditQuery())
    assert [item.host for item in page.lines] == [f"h{number}.example" for number in range(9)]
    assert page.dropped == 7


def test_one_sandbox_does_not_fill_the_queue_for_the_others(directory, stuck):
    writer, go_on = stuck
    for number in range(1, 9):
        writer.write(line(number))
    writer.write(line(100, sandbox_id="sb_quiet"))
    assert writer.dropped == 6
    go_on.set()
    writer.close(20.0)
    assert [item.host for item in read(directory)] == ["h0.example", "h1.example", "h2.example", "h100.example"]


def test_nobody_hides_what_it_has_sent_behind_a_slow_disk(directory, stuck):
    writer, go_on = stuck
    for number in range(1, 100):
        writer.write(line(number, verdict="denied"))
    before = writer.dropped
    for _ in range(5):
        writer.write(line(host="taker.example", sent_bytes=10, received_bytes=1))
    for number in range(100):
        writer.write(line(sandbox_id=f"sb_other{number}", sent_bytes=1))
    assert writer.dropped == before
    go_on.set()
    writer.close(20.0)
    found = read(directory)
    (taken,) = [item for item in found if item.host == "taker.example"]
    assert (taken.sent_bytes, taken.received_bytes, taken.repeated) == (50, 5, 4)
    assert sum(item.sent_bytes for item in found) == 150


def test_what_is_over_its_share_is_summed_up_at_the_end_too(directory):
    lines = [line(number, path="/" * 2000, sent_bytes=3) for number in range(1500)]
    assert written(directory, lines, queue=1 << 16).dropped == 0
    found = read_audit(directory, AuditQuery(limit=10_000)).lines
    assert len(found) < 1500
    assert sum(1 + item.repeated for item in found) == 1500
    assert sum(item.sent_bytes for item in found) == 4500


def test_a_full_disk_costs_lines_and_says_so(directory, monkeypatch):
    real, full = os.write, [True]

    def write(fd: int, data: bytes) -> int:
        if full[0]:
            real(fd, bytes(data[:10]))
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data)

    monkeypatch.setattr(audit.os, "write", write)
    writer = AuditWriter(directory)
    writer.write(line(0))
    wait_for(lambda: writer.dropped == 1)
    full[0] = False
    writer.write(line(1))
    writer.close(20.0)
    page = read_audit(directory, AuditQuery())
    assert (page.lines, page.dropped) == ([line(1)], 1)


def test_after_closing_nothing_is_taken(directory):
    writer = written(directory, [line(0)])
    writer.write(line(1))
    writer.close()
    assert writer.dropped == 1
    assert read(directory) == [line(0)]


def test_what_the_code_chose_makes_no_line_long_and_no_second_line():
    hostile = line(path="/" + "a" * 100_000 + "\n{}", host="h" * 5000, process="\ud800\n", reason="x" * 9000)
    encoded = encode_line(hostile)
    assert len(encoded) < 12_000 and encoded.count(b"\n") == 1
    assert json.loads(encoded)["host"].startswith("hhh")


def test_a_file_that_is_renamed_while_it_is_read_is_met_once(directory, monkeypatch):
    written(directory, [line(number) for number in range(3)])
    real = os.open
    renamed = []

    def open_and_rename(path, flags, mode=0o777, **more):
        fd = real(path, flags, mode, **more)
        if str(path).endswith(audit_reader.FILE) and not renamed:
            renamed.append(path)
            os.rename(path, f"{path}.1")
        return fd

    monkeypatch.setattr(audit_reader.os, "open", open_and_rename)
    assert len(read(directory)) == 3


def test_old_files_are_not_read_for_new_lines(directory, monkeypatch):
    for start in range(0, 40, 4):
        written(directory, [line(start + number) for number in range(4)], max_bytes=500, files=8)
    for name in os.listdir(directory):
        if name != audit_reader.FILE:
            os.utime(f"{directory}/{name}", (1.0, 1.0))
    opened = []
    real = os.pread
    monkeypatch.setattr(audit_reader.os, "pread", lambda fd, *rest: opened.append(fd) or real(fd, *rest))
    read(directory, since=1000.0)
    assert len(opened) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=30), st.integers(1, 80))
def test_any_bytes_can_be_read_in_any_blocks(tmp_path_factory, pieces, block):
    directory = str(tmp_path_factory.mktemp("audit"))
    good = msgspec.json.encode(line(7))
    with open(f"{directory}/egress.jsonl", "wb") as file:
        for piece in pieces:
            file.write(piece.replace(b"\n", b"") + b"\n" + good + b"\n")
    real, audit_reader.BLOCK = audit_reader.BLOCK, block
    try:
        assert read(directory) == [line(7)] * len(pieces)
    finally:
        audit_reader.BLOCK = real


@pytest.mark.parametrize("wrong", [{"address": [object()]}, {"verdict": "denied", "host": []}])
def test_a_line_that_cannot_be_written_is_counted_and_ends_nothing(directory, monkeypatch, wrong):
    monkeypatch.setattr(audit, "BATCH", 1)
    writer = written(directory, [line(0), msgspec.structs.replace(line(1), **wrong), line(2)])
    assert (writer.dropped, [each.host for each in read(directory)]) == (1, ["h0.example", "h2.example"])
