"""Frames: golden vectors, any cut of the bytes, and what a hostile guest may send."""

import base64
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.guest_api.frames import (
    EXITED,
    GAP,
    KEEPALIVE,
    MAX_PAYLOAD_BYTES,
    STARTED,
    STDERR,
    STDOUT,
    Frame,
    FrameDecoder,
    encode,
    encode_gap,
)
from cloche.model.errors import GuestError

VECTORS = Path(__file__).parents[3] / "guest" / "testdata" / "vectors"


def header(kind: int, length: int, offset: int = 0, zero: bytes = b"\0\0\0") -> bytes:
    return struct.pack(">B3sIQ", kind, zero, length, offset)


def test_golden_vectors() -> None:
    for vector in json.loads((VECTORS / "frames.json").read_text()):
        frame = Frame(vector["kind"], vector["offset"], base64.b64decode(vector["payload_base64"]))
        encoded = bytes.fromhex(vector["encoded_hex"])
        assert encode(frame) == encoded
        assert FrameDecoder().feed(encoded) == [frame]


def test_golden_frames_carry_what_they_say() -> None:
    for vector in json.loads((VECTORS / "frames.json").read_text()):
        frame = Frame(vector["kind"], vector["offset"], base64.b64decode(vector["payload_base64"]))
        if frame.kind in (STARTED, EXITED):
            assert frame.process().id.startswith("p_")
        if frame.kind == GAP:
            assert frame.gap().lost > 0


@given(st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=50))), st.data())
def test_any_cut_of_the_bytes_gives_the_same_frames(parts: list[tuple[int, bytes]], data: st.DataObject) -> None:
    offsets = {STDOUT: 0, STDERR: 0}
    frames = []
    for kind, payload in parts:
        frames.append(Frame(kind, offsets[kind], payload))  # type: ignore[arg-type]
        offsets[kind] += len(payload)
    stream = b"".join(map(encode, frames))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder, found = FrameDecoder(stdout_offset=0, stderr_offset=0), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    decoder.finish()
    assert found == frames


@given(st.binary(max_size=200))
def test_garbage_is_an_error_or_frames_and_nothing_else(noise: bytes) -> None:
    decoder = FrameDecoder()
    try:
        decoder.feed(noise)
        decoder.finish()
    except GuestError:
        pass


@pytest.mark.parametrize(
    "bad",
    [
        header(0, 0),
        header(7, 0),
        header(255, 0),
        header(STDOUT, MAX_PAYLOAD_BYTES + 1),
        header(STDOUT, 0xFFFFFFFF),
        header(STDOUT, 1, zero=b"\0\0\1"),
        header(STDOUT, 1, offset=(1 << 64) - 1),
        header(STARTED, 0, offset=5),
        header(KEEPALIVE, 1),
        header(GAP, 1, 1) + b"x",
        header(GAP, 9, 10) + b"\x07" + struct.pack(">Q", 1),
        header(GAP, 9, 10) + b"\x02" + struct.pack(">Q", 11),
        header(GAP, 9, 10) + b"\x02" + struct.pack(">Q", 0),
    ],
)
def test_headers_that_the_wire_does_not_allow(bad: bytes) -> None:
    with pytest.raises(GuestError):
        FrameDecoder().feed(bad)


@pytest.mark.parametrize("second", [0, 2, 4, 100])
def test_output_that_goes_back_overlaps_or_leaps(second: int) -> None:
    decoder = FrameDecoder(stdout_offset=0)
    decoder.feed(encode(Frame(STDOUT, 0, b"abc")))
    with pytest.raises(GuestError):
        decoder.feed(encode(Frame(STDOUT, second, b"x")))


def test_a_gap_that_is_told_is_no_error() -> None:
    decoder = FrameDecoder(stdout_offset=5)
    frames = decoder.feed(encode_gap(STDOUT, 100, 95) + encode(Frame(STDOUT, 100, b"x")))
    assert frames[0].gap() == (STDOUT, 95)
    with pytest.raises(GuestError):
        decoder.feed(encode_gap(STDOUT, 200, 100))


def test_an_offset_from_the_end_may_begin_anywhere() -> None:
    assert FrameDecoder(stdout_offset=-10).feed(encode(Frame(STDOUT, 90, b"x")))


def test_nothing_comes_after_the_exit_but_keepalives() -> None:
    decoder = FrameDecoder()
    decoder.feed(encode(Frame(EXITED, 0, b"{}")) + encode(Frame(KEEPALIVE, 0, b"")))
    assert decoder.exited
    with pytest.raises(GuestError):
        decoder.feed(encode(Frame(STDOUT, 0, b"x")))


def test_a_process_starts_only_once_and_first() -> None:
    with pytest.raises(GuestError):
        FrameDecoder().feed(encode(Frame(STDOUT, 0, b"x")) + encode(Frame(STARTED, 0, b"{}")))


def test_a_cut_frame_at_the_end_is_an_error() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(encode(Frame(STDOUT, 0, b"abc"))[:-1]) == []
    with pytest.raises(GuestError):
        decoder.finish()


def test_a_payload_too_large_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode(Frame(STDOUT, 0, b"x" * (MAX_PAYLOAD_BYTES + 1)))


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"\xff", b'{"id":1}', b"[" * 100_000])
def test_a_process_that_is_none(payload: bytes) -> None:
    with pytest.raises(GuestError):
        Frame(EXITED, 0, payload).process()
