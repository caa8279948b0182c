"""Events of executions: any cut of the bytes, and what a hostile guest or a forged frame may send."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.guest_api import events
from cloche.guest_api.events import EventDecoder, encode
from cloche.model.code import (
    MAX_EVENT_BYTES,
    Accepted,
    CodeEnded,
    CodeError,
    CodeEvent,
    CodeGap,
    CodeOutput,
    CodeResult,
    Keepalive,
    Started,
)
from cloche.model.errors import GuestError

CONTEXT, EXECUTION = "c_" + "0" * 26, "x_" + "0" * 26
ACCEPTED = Accepted(seq=1, execution_id=EXECUTION, context_id=CONTEXT, language="python")
STARTED = Started(seq=2, number=1, at=1.0)

texts = st.text(st.characters(exclude_categories=("Cs",)) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
bodies = st.one_of(
    st.builds(CodeOutput, seq=st.just(0), stream=st.sampled_from(["stdout", "stderr"]), text=texts),
    st.builds(CodeResult, seq=st.just(0), kind=st.just("value"), data=st.dictionaries(texts, json_values, max_size=3)),
    st.builds(CodeError, seq=st.just(0), name=texts, message=texts, traceback=texts),
    st.just(Keepalive()),
)


def numbered(bodies: list[CodeEvent]) -> list[CodeEvent]:
    """A whole execution with these in the middle."""
    seq, found = 2, [ACCEPTED, STARTED]
    for body in bodies:
        if not isinstance(body, Keepalive):
            seq += 1
            body = type(body)(**{**{name: getattr(body, name) for name in body.__struct_fields__}, "seq": seq})
        found.append(body)
    return [*found, CodeEnded(seq=seq + 1, status="ok")]


def lines(*found: CodeEvent) -> bytes:
    return b"".join(map(encode, found))


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


@settings(deadline=None)
@given(st.lists(bodies, max_size=6), st.data())
def test_any_cut_of_the_bytes_gives_the_same_events(middle: list[CodeEvent], data: st.DataObject) -> None:
    whole = numbered(middle)
    stream = lines(*whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder, found = EventDecoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    decoder.finish()
    assert found == whole and decoder.ended and decoder.execution_id == EXECUTION


@settings(deadline=None)
@given(st.lists(bodies, max_size=6), st.data())
def test_a_reader_goes_on_after_any_event(middle: list[CodeEvent], data: st.DataObject) -> None:
    whole = [event for event in numbered(middle) if not isinstance(event, Keepalive)]
    after = data.draw(st.integers(0, len(whole)))
    decoder = EventDecoder(after=after)
    assert decoder.feed(lines(*whole[after:])) == whole[after:]
    decoder.finish()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_an_error_or_events_and_nothing_else(noise: bytes) -> None:
    for prefix in (b"", lines(ACCEPTED)):
        decoder = EventDecoder()
        try:
            decoder.feed(prefix + noise)
            decoder.finish()
        except GuestError:
            pass


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["type", "seq", "stream", "text", "data", "kind", "status"]),
                       json_values | st.sampled_from(["output", "ended", "result", 2])))  # fmt: skip
def test_forged_objects_are_an_error_or_events_and_nothing_else(fields: dict[str, object]) -> None:
    decoder = EventDecoder()
    decoder.feed(lines(ACCEPTED))
    try:
        decoder.feed(line(**fields))
    except GuestError:
        pass


@pytest.mark.parametrize(
    "stream",
    [
        lines(STARTED),
        lines(Started(seq=1, number=1, at=1.0)),
        lines(ACCEPTED, ACCEPTED),
        lines(ACCEPTED, Accepted(seq=2, execution_id=EXECUTION, context_id=CONTEXT, language="python")),
        lines(ACCEPTED, Started(seq=3, number=1, at=1.0)),
        lines(ACCEPTED, STARTED, Started(seq=3, number=2, at=1.0)),
        lines(ACCEPTED, Started(seq=2, number=0, at=1.0)),
        lines(ACCEPTED, Started(seq=2, number=1, at=-1.0)),
        lines(ACCEPTED, CodeEnded(seq=2, status="ok", wall_seconds=-1)),
        lines(ACCEPTED, CodeEnded(seq=2, status="ok"), CodeOutput(seq=3, stream="stdout", text="x")),
        lines(ACCEPTED, CodeGap(seq=5, lost_events=4)),
        lines(Accepted(seq=1, execution_id="x_1", context_id=CONTEXT, language="python")),
        lines(Accepted(seq=1, execution_id=EXECUTION, context_id="../..", language="python")),
        lines(Accepted(seq=1, execution_id=EXECUTION, context_id=CONTEXT, language="python", ahead=-1)),
        lines(ACCEPTED) + line(type="new", seq=2),
        lines(ACCEPTED) + line(type="output", seq=2, stream="stdin", text="x"),
        lines(ACCEPTED) + line(type="output", seq=2, stream="stdout", text=1),
        lines(ACCEPTED) + line(type="output", stream="stdout", text="x"),
        lines(ACCEPTED) + line(type="output", seq=True, stream="stdout", text="x"),
        lines(ACCEPTED) + line(type="result", seq=2, kind="value", data=[]),
        lines(ACCEPTED) + b'{"type":"result","seq":2,"kind":"value","data":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}\n",
        lines(ACCEPTED) + b'{"type":"result","seq":2,"kind":"value","data":{"a":' + b"[" * 200 + b"]" * 200 + b"}}\n",
        lines(ACCEPTED) + b'{"type":"output","seq":2,"stream":"stdout","text":"\\ud800"}\n',
        lines(ACCEPTED) + b'{"type":"output","seq":2,"stream":"stdout","text":"\xff"}\n',
        lines(ACCEPTED) + b"\n",
        lines(ACCEPTED) + b"null\n",
        lines(ACCEPTED) + b"[]\n",
        line(type="keepalive", seq=1)[:-1] + b"x\n",
    ],
)
def test_events_that_the_wire_does_not_allow(stream: bytes) -> None:
    with pytest.raises(GuestError):
        EventDecoder().feed(stream)


def test_a_gap_is_told_and_counted() -> None:
    gap, rest = CodeGap(seq=9, lost_events=9), CodeOutput(seq=10, stream="stdout", text="x")
    assert EventDecoder(after=0).feed(lines(gap, rest)) == [gap, rest]
    assert EventDecoder(after=4).feed(lines(CodeGap(seq=9, lost_events=5), rest))[1] == rest
    for wrong in (CodeGap(seq=9, lost_events=4), CodeGap(seq=9, lost_events=6), CodeGap(seq=9, lost_events=0)):
        with pytest.raises(GuestError):
            EventDecoder(after=4).feed(lines(wrong))


def test_a_cut_line_and_an_execution_without_events_are_errors() -> None:
    decoder = EventDecoder()
    with pytest.raises(GuestError):
        decoder.finish()
    decoder.feed(lines(ACCEPTED) + b'{"type"')
    with pytest.raises(GuestError):
        decoder.finish()
    EventDecoder(after=3).finish()


@pytest.mark.parametrize("step", [1 << 20, MAX_EVENT_BYTES + 2])
def test_a_line_is_bounded_however_it_comes(step: int) -> None:
    decoder = EventDecoder()
    decoder.feed(lines(ACCEPTED))
    endless = b"x" * step
    with pytest.raises(GuestError, match="more than"):
        for _ in range(2 + MAX_EVENT_BYTES // step):
            decoder.feed(endless)
    with pytest.raises(GuestError, match="more than"):
        EventDecoder().feed(lines(ACCEPTED) + b"x" * (MAX_EVENT_BYTES + 1) + b"\n")


def test_bytes_that_are_not_utf8_travel_as_lone_surrogates() -> None:
    event = CodeOutput(seq=2, stream="stdout", text="caf\udce9 \U0001f600")
    assert events.decode(encode(event).rstrip(b"\n")) == event


@pytest.mark.parametrize(
    "data",
    [
        b'"application/json":[' + b"[]," * (3 << 20) + b"[]]",
        b'"application/json":[' + b"1," * (3 << 20) + b"1]",
        b",".join(b'"%d":""' % number for number in range(1 << 20 | 1)),
    ],
    ids=["lists", "numbers", "types"],
)
def test_json_that_would_be_many_times_larger_in_memory_is_refused_unread(data: bytes) -> None:
    decoder = EventDecoder()
    decoder.feed(lines(ACCEPTED))
    tracemalloc.start()
    try:
        with pytest.raises(GuestError, match="bounds"):
            decoder.feed(b'{"type":"result","seq":2,"kind":"value","data":{' + data + b"}}\n")
        assert tracemalloc.get_traced_memory()[1] < 6 * len(data)
    finally:
        tracemalloc.stop()


def test_large_results_of_text_pass() -> None:
    rows = CodeResult(seq=2, kind="value", data={"text/plain": "1,2,[3],{4}\udcff\n" * 600_000})
    table = CodeResult(seq=3, kind="value", data={"application/json": list(range(300_000)), "text/html": "a,b" * 10**6})
    assert EventDecoder(after=2).feed(lines(table)) == [table]
    assert events.decode(encode(CodeResult(seq=2, kind="value", data={"text/plain": "1,[2]\n" * 2_000_000}))).seq == 2  # type: ignore[union-attr]
    with pytest.raises(GuestError):
        events.decode(encode(rows))
