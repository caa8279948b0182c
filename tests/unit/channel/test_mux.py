"""Two ends joined through arbitrary cuts, hosts that die at any byte, and bytes that nobody sane would send."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.channel import mux_frames as wire
from cloche.channel.mux import MAX_QUEUED_BYTES, MAX_UNTAKEN_BYTES, Mux, MuxError

EPOCH = b"\x01\x02\x03\x04" + bytes(12)
OTHER = b"\x05\x06\x07\x08" + bytes(12)
LARGEST = 16 + 65_536 + 4


def frame(kind: int, stream: int, value: int, payload: bytes = b"", tag: bytes = EPOCH[:4]) -> bytes:
    """Made by hand, as the description of the wire has it."""
    head = struct.pack(">B3xII", kind, stream, value) + tag
    return head + payload + tag if kind == 2 else head


def data(stream: int, payload: bytes, tag: bytes = EPOCH[:4]) -> bytes:
    return frame(2, stream, len(payload), payload, tag)


class End:
    """One end and what it has heard."""

    def __init__(self, mux: Mux) -> None:
        self.mux = mux
        self.begun = 0
        self.errors: list[MuxError] = []
        self._forget()

    def _forget(self) -> None:
        self.got: dict[int, bytearray] = {}
        self.unread: dict[int, int] = {}
        self.finished: set[int] = set()
        self.reset: dict[int, int] = {}
        self.opened: list[int] = []

    def hear(self, received: bytes) -> None:
        for event in self.mux.receive(received):
            match event:
                case wire.Began():
                    self.begun += 1
                    self._forget()
                case wire.Ended(error):
                    self.errors.append(error)
                case wire.Opened(stream):
                    self.opened.append(stream)
                case wire.Data(stream, payload):
                    assert stream not in self.finished
                    self.got.setdefault(stream, bytearray()).extend(payload)
                    self.unread[stream] = self.unread.get(stream, 0) + len(payload)
                    assert self.unread[stream] <= wire.WINDOW_BYTES
                case wire.Finished(stream):
                    self.finished.add(stream)
                case wire.Reset(stream, reason):
                    self.reset[stream] = reason

    def read_all(self) -> None:
        for stream, count in self.unread.items():
            self.mux.consumed(stream, count)
            self.unread[stream] = 0


def joined() -> tuple[End, End]:
    host, guest = End(Mux.host(EPOCH)), End(Mux.guest())
    exchange(host, guest)
    assert (host.begun, guest.begun) == (1, 1)
    return host, guest


def exchange(one: End, other: End) -> None:
    while one.mux.waiting or other.mux.waiting:
        other.hear(one.mux.take())
        one.hear(other.mux.take())


def test_the_bytes_of_a_short_conversation() -> None:
    host, guest = Mux.host(EPOCH), Mux.guest()
    hello = host.take()
    assert hello == bytes(65_556) + b"CLOCHE-MUX/1\r\n\0\0" + EPOCH
    guest.receive(hello)
    answer = guest.take()
    assert answer == b"cloche-mux/1\r\n\0\0" + EPOCH
    assert not host.established
    host.receive(b"old bytes" + answer)
    assert host.established
    stream = host.open()
    host.send(stream, b"hi")
    host.finish(stream)
    host.ping(7)
    said = host.take()
    assert said == frame(1, 1, 256 << 10) + data(1, b"hi") + frame(4, 1, 0) + frame(6, 0, 7)
    assert guest.receive(said) == [wire.Opened(1), wire.Data(1, b"hi"), wire.Finished(1)]
    assert guest.open() == 2
    guest.close(1)
    assert guest.take() == frame(7, 0, 7) + frame(1, 2, 256 << 10) + frame(4, 1, 0)
    guest.reset(2, wire.PROTOCOL)
    assert guest.take() == frame(5, 2, 2)


@pytest.mark.parametrize("epoch", [b"", bytes(16), b"\1\0\2\3" + bytes(12)])
def test_an_epoch_that_zeros_could_complete_is_refused(epoch: bytes) -> None:
    with pytest.raises(ValueError):
        Mux.host(epoch)


Steps = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(1, 150_000)), max_size=60)


@given(Steps)
@settings(max_examples=150, deadline=None)
def test_payloads_arrive_whole_and_in_order_through_any_cuts(steps: list[tuple[int, int, int]]) -> None:
    host, guest = joined()
    ends, pipes = (host, guest), (bytearray(), bytearray())
    said: tuple[dict[int, bytearray], dict[int, bytearray]] = ({}, {})
    given_up: set[int] = set()
    for what, which, size in steps:
        side = which % 2
        mux, known = ends[side].mux, sorted({*said[0], *said[1], *host.opened, *guest.opened} - given_up)
        if what == 0 or not known:
            said[side][mux.open()] = bytearray()
        elif what <= 4:
            pipes[side].extend(mux.take())
            arrived, pipes[side][:size] = bytes(pipes[side][:size]), b""
            ends[1 - side].hear(arrived)
        elif what <= 7:
            say(mux, known[which % len(known)], said[side], size)
        elif what == 8:
            ends[side].read_all()
        else:
            stream = known[which % len(known)]
            given_up |= {stream} if size % 3 == 0 else set()
            (mux.close if size % 3 == 0 else mux.finish)(stream)
    for side in (0, 1):
        ends[1 - side].hear(bytes(pipes[side]) + ends[side].mux.take())
    exchange(host, guest)
    assert not host.errors + guest.errors
    for side in (0, 1):
        for stream, sent in said[side].items():
            got = ends[1 - side].got.get(stream, b"")
            assert got == sent if stream not in given_up else sent.startswith(got)


def say(mux: Mux, stream: int, said: dict[int, bytearray], size: int) -> None:
    content = bytes([len(said.get(stream, b"")) % 251]) * size
    try:
        count = mux.send(stream, content)
    except MuxError:
        return  # over already, or not heard of yet
    said.setdefault(stream, bytearray()).extend(content[:count])


def test_a_slow_reader_stalls_nobody_else() -> None:
    host, guest = joined()
    slow, quick = guest.mux.open(), guest.mux.open()
    while guest.mux.send(slow, bytes(100_000)):
        exchange(host, guest)
    assert host.unread[slow] == wire.WINDOW_BYTES
    for _ in range(50):
        assert guest.mux.send(quick, bytes(50_000)) == 50_000
        exchange(host, guest)
        host.mux.consumed(quick, host.unread[quick])
        host.unread[quick] = 0
        exchange(host, guest)
    host.read_all()
    exchange(host, guest)
    assert guest.mux.send(slow, bytes(1000)) == 1000


def test_credit_comes_back_when_half_a_window_is_consumed() -> None:
    host, guest = joined()
    stream = guest.mux.open(window=1000)
    exchange(host, guest)
    assert host.mux.send(stream, bytes(5000)) == 1000
    exchange(host, guest)
    guest.mux.consumed(stream, 499)
    assert not guest.mux.waiting
    guest.mux.consumed(stream, 1)
    assert guest.mux.take() == frame(3, stream, 500)


def test_the_queue_is_bounded() -> None:
    host, _ = joined()
    streams = [host.mux.open() for _ in range(20)]
    for stream in streams:
        host.mux.send(stream, bytes(wire.WINDOW_BYTES))
    assert host.mux.waiting < MAX_QUEUED_BYTES + LARGEST


def test_what_is_under_way_for_a_stream_that_was_given_up_is_dropped() -> None:
    host, guest = joined()
    stream = host.mux.open()
    exchange(host, guest)
    guest.mux.send(stream, b"late")
    guest.mux.finish(stream)
    host.mux.close(stream)
    exchange(host, guest)
    assert stream not in host.got and not host.errors
    assert guest.finished == {stream}
    assert host.mux.open_streams == guest.mux.open_streams == 0


def test_more_streams_than_allowed_are_refused() -> None:
    host, guest = joined()
    streams = [guest.mux.open() for _ in range(wire.MAX_STREAMS)]
    with pytest.raises(MuxError):
        guest.mux.open()
    exchange(host, guest)
    assert len(host.opened) == wire.MAX_STREAMS
    host.hear(frame(1, streams[-1] + 2, 5))
    assert host.mux.take() == frame(5, streams[-1] + 2, 1)
    host.hear(data(streams[-1] + 2, b"late"))
    assert not host.errors
    guest.mux.close(streams[0])
    exchange(host, guest)
    assert guest.mux.open() == streams[-1] + 2


ATTACKER = bytes(65_536 - 32) + b"CLOCHE-MUX/1\r\n\0\0" + b"\x09" * 16


@given(
    payload=st.one_of(st.binary(min_size=1, max_size=40), st.just(ATTACKER), st.just(b"o" * 65_536)),
    cut=st.one_of(st.integers(0, 66_000), st.integers(-66_000, -1)),
    lost=st.integers(0, 100_000),
    chunk=st.sampled_from([1, 7, 4096, 1 << 20]),
)
@settings(max_examples=150, deadline=None)
def test_a_host_that_died_at_any_byte_is_followed_by_another(payload: bytes, cut: int, lost: int, chunk: int) -> None:
    guest, first = End(Mux.guest()), Mux.host(EPOCH)
    said = first.take()
    scratch = Mux.guest()
    scratch.receive(said)
    first.receive(scratch.take())
    stream = first.open()
    first.send(stream, payload)
    first.finish(stream)
    said = (said + first.take())[:cut]
    guest.hear(said)
    if guest.mux.established:
        guest.mux.send(guest.mux.open(), b"for the dead" * 1000)
    left_over = guest.mux.take()[lost:]
    second = End(Mux.host(OTHER))
    hello = second.mux.take()
    for at in range(0, len(hello), max(chunk, 64)):
        guest.hear(hello[at : at + max(chunk, 64)])
    assert guest.mux.established and not guest.got and not guest.opened
    stream = guest.mux.open()
    guest.mux.send(stream, b"for the living")
    answer = left_over + guest.mux.take()
    for at in range(0, len(answer), chunk):
        second.hear(answer[at : at + chunk])
    assert second.begun == 1 and second.got == {2: b"for the living"}
    stream = second.mux.open()
    second.mux.send(stream, b"new")
    exchange(second, guest)
    assert guest.got == {1: b"new"} and not second.errors


def test_a_guest_that_gave_up_says_so() -> None:
    host, guest = joined()
    guest.hear(frame(9, 0, 0))
    assert guest.errors and not guest.mux.established
    host.hear(guest.mux.take())
    assert host.errors and host.mux.receive(data(1, b"x")) == []
    with pytest.raises(MuxError):
        host.mux.open()


Hostile = st.lists(
    st.one_of(
        st.binary(max_size=100),
        st.builds(frame, st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**32 - 1), st.binary(max_size=50)),
        st.builds(data, st.integers(0, 9), st.binary(min_size=1, max_size=5000)),
        st.builds(frame, st.sampled_from([1, 3, 4, 5, 6, 7]), st.integers(0, 9), st.integers(0, 70_000)),
    ),
    max_size=30,
)


@given(pieces=Hostile, host_role=st.booleans(), greeted=st.booleans(), cuts=st.integers(1, 5000))
@settings(max_examples=300, deadline=None)
def test_hostile_bytes_break_nothing_but_the_epoch(
    pieces: list[bytes], host_role: bool, greeted: bool, cuts: int
) -> None:
    host, guest = joined() if greeted else (End(Mux.host(EPOCH)), End(Mux.guest()))
    end = host if host_role else guest
    if greeted:
        host.mux.open()
        host.mux.open()
        exchange(host, guest)
    content = b"".join(pieces)
    for at in range(0, len(content), cuts):
        end.hear(content[at : at + cuts])
    assert len(end.mux._held) < LARGEST + cuts
    assert end.mux.waiting <= MAX_UNTAKEN_BYTES + LARGEST
    if not host_role:
        end.hear(Mux.host(OTHER).take())
        assert end.mux.established and end.mux.take()[-32:] == b"cloche-mux/1\r\n\0\0" + OTHER


WRONG = {
    "no such kind": frame(8, 0, 0),
    "kind zero": bytes(16),
    "padding": b"\6\0\1\0" + frame(6, 0, 0)[4:],
    "another epoch": frame(6, 0, 0, tag=b"\1\2\3\5"),
    "an empty payload": data(1, b""),
    "a payload too large": frame(2, 1, 65_537)[:16],
    "half a payload": data(1, b"abc")[:-4] + bytes(4),
    "data for no stream": data(3, b"x"),
    "data for stream zero": data(0, b"x"),
    "data on a stream that only the guest could have": data(4, b"x"),
    "more than the window": data(1, bytes(65_536)) * 5,
    "data after the end": frame(4, 1, 0) + data(1, b"x"),
    "two ends": frame(4, 1, 0) * 2,
    "opening the host's": frame(1, 3, 0),
    "opening zero": frame(1, 0, 0),
    "opening one twice": frame(1, 2, 0) * 2,
    "opening backwards": frame(1, 4, 0) + frame(1, 2, 0),
    "a window without measure": frame(3, 1, 2**32 - 1),
    "a ping on a stream": frame(6, 1, 0),
    "pings without end": frame(6, 0, 0) * (MAX_UNTAKEN_BYTES // 16 + 2),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("cut", [1, 16, 1 << 22])
def test_what_is_wrong_ends_the_epoch(what: str, cut: int) -> None:
    host, guest = joined()
    host.mux.open()
    exchange(host, guest)
    wrong = WRONG[what]
    if cut == 1:
        host.hear(wrong[:-70_000])
        wrong = wrong[-70_000:]
    for at in range(0, len(wrong), cut):
        host.hear(wrong[at : at + cut])
    assert len(host.errors) == 1 and not host.mux.waiting
