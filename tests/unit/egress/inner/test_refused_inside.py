"""What the guest says of packets that were refused in the sandbox becomes lines and events, and nothing else."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import msgspec
import pytest

from cloche.egress.auditing.news import EventPace
from cloche.egress.inner import guest_words, refused_inside
from cloche.egress.inner.attached import Attached
from cloche.egress.inner.guest_words import Refused, Unknown
from cloche.egress.messages import Attach, Happened
from cloche.model.egress import AuditLine, EgressCounters, EgressPolicy


class Sink(list[AuditLine]):
    def write(self, line: AuditLine) -> None:
        self.append(line)


def heard(*words: Refused) -> tuple[list[AuditLine], list[Happened], EgressCounters]:
    async def hear() -> EgressCounters:
        attach = Attach(id=1, sandbox_id="sb_1", name="box", project_id="mine", policy=EgressPolicy(), secrets=[],
                        counters=EgressCounters())  # fmt: skip
        attached = Attached(attach, world)
        for word in words:
            refused_inside.write(attached, word)
        attached.close()
        return attached.counters()

    sink, told = Sink(), []
    world = SimpleNamespace(audit=sink, pace=EventPace(), own=frozenset(), tell=told.append)
    counters = asyncio.run(hear())
    return sink, told, counters


def test_a_refused_datagram_is_a_line_and_an_event():
    (line,), (event,), counters = heard(Refused(host="NTP.example.", port=123, protocol="udp", count=4, process="ntpd"))
    assert (line.verdict, line.via, line.rule, line.host, line.port) == (
        "denied",
        "inside",
        "no-udp",
        "ntp.example",
        123,
    )
    assert (line.repeated, line.process, line.sandbox, line.project_id) == (3, "ntpd", "box", "mine")
    assert event.kind == "egress_denied"
    assert event.data["rule"] == "no-udp" and event.data["protocol"] == "udp" and event.data["port"] == 123
    assert counters.denied == 4


@pytest.mark.parametrize(("protocol", "rule"), [("icmp", "no-icmp"), ("other", "no-other")])
def test_pings_and_other_protocols(protocol, rule):
    (line,), _, _ = heard(Refused(host="192.0.2.1", protocol=protocol))
    assert (line.rule, line.host, line.port, line.repeated) == (rule, "192.0.2.1", 0, 0)


def test_those_that_were_too_many_are_one_line():
    (line,), _, counters = heard(Refused(host="*", count=1_000_000))
    assert (line.host, line.rule, line.repeated, counters.denied) == ("*", "no-other", 999_999, 1_000_000)


@pytest.mark.parametrize("host", ["", "a b", "\x1b[2J", "..", "a" * 400, "%41.example", "**"])
def test_what_names_no_host_is_passed_over(host):
    assert heard(Refused(host=host, port=1, protocol="udp")) == ([], [], heard()[2])


def test_events_have_their_pace_and_lines_do_not():
    lines, events, _ = heard(*[Refused(host="a.example", port=9, protocol="udp")] * 5)
    assert (len(lines), len(events)) == (5, 1)


@pytest.mark.parametrize(
    "said",
    [
        b'{"op":"refused","host":"a.example","port":65536}',
        b'{"op":"refused","host":"a.example","count":0}',
        b'{"op":"refused","host":"a.example","count":1000001}',
        b'{"op":"refused","host":"a.example","protocol":"tcp"}',
        b'{"op":"refused","port":1}',
        b'{"op":"refused","host":"%s"}' % (b"a" * 513),
        b'{"op":"resolve"}',
        b'{"op":7}',
        b"{}",
        b"[]",
    ],
)
def test_a_word_out_of_bounds_is_none(said):
    with pytest.raises(msgspec.DecodeError):
        guest_words.read_word(said)


def test_a_word_of_a_newer_guest_is_passed_over():
    assert guest_words.read_word(b'{"op":"sung","song":[1]}') == Unknown(op="sung")
    said = b'{"op":"refused","host":"a.example","port":1,"protocol":"udp","count":2,"pid":3,"process":"x","more":1}'
    assert guest_words.read_word(said) == Refused(host="a.example", port=1, protocol="udp", count=2, pid=3, process="x")
