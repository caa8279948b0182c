"""The parts of the SDK that do no I/O: frames, cursors, request bodies."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.model.errors import GuestError, InvalidError, UnavailableError, VersionMismatchError
from cloche.model.process import ProcessInfo
from cloche.sdk import code_options, frames, options, wire
from cloche.sdk.collect import Collector, Cursor
from cloche.sdk.frames import Frame, FrameDecoder
from cloche.sdk.values import Exited, Gap, Output

HEADER = struct.Struct(">B3xIQ")


@given(st.lists(st.tuples(st.sampled_from([2, 3]), st.binary(max_size=50)), max_size=8), st.integers(1, 40))
def test_frames_come_out_whole_however_the_bytes_are_cut(written: list[tuple[int, bytes]], step: int) -> None:
    sent = b"".join(HEADER.pack(kind, len(data), 0) + data for kind, data in written)
    decoder = FrameDecoder()
    got = [frame for start in range(0, len(sent), step) for frame in decoder.feed(sent[start : start + step])]
    assert [(frame.kind, frame.payload) for frame in got] == written


@pytest.mark.parametrize("bad", [HEADER.pack(9, 0, 0), HEADER.pack(2, 1 << 30, 0)])
def test_what_is_no_frame_is_refused_before_it_is_awaited(bad: bytes) -> None:
    with pytest.raises(GuestError):
        list(FrameDecoder().feed(bad))


def test_a_cursor_neither_doubles_nor_hides() -> None:
    cursor = Cursor()
    assert cursor.events(Frame(2, 0, b"abc")) == [Output("stdout", 0, b"abc")]
    assert cursor.events(Frame(2, 1, b"bcde")) == [Output("stdout", 3, b"de")]
    assert cursor.events(Frame(2, 7, b"h")) == [Gap("stdout", 7, 2), Output("stdout", 7, b"h")]
    assert cursor.events(Frame(4, 20, struct.pack(">BQ", 3, 20))) == [Gap("stderr", 20, 20)]
    assert cursor.query() == {"stdout_offset": 8, "stderr_offset": 20}
    assert cursor.events(Frame(frames.KEEPALIVE, 0, b"")) == []


@pytest.mark.parametrize("payload", [b"", b"\x02", struct.pack(">BQ", 7, 1)])
def test_an_unreadable_gap_is_an_error(payload: bytes) -> None:
    with pytest.raises(GuestError):
        Cursor().events(Frame(4, 0, payload))


def test_what_is_collected_is_bounded_and_says_so() -> None:
    info = ProcessInfo(id="p_1", pid=1, argv=["x"], state="exited", started_at=0, exit_code=3, limit_hit="timeout")
    collector = Collector(4)
    for event in (Output("stdout", 0, b"abc"), Output("stdout", 3, b"def"), Gap("stderr", 5, 5), Exited(info)):
        collector.take(event)
    result = collector.result(info)
    assert (result.stdout, result.truncated, result.exit_code) == ("abcd", True, 3)
    assert result.gaps == (Gap("stderr", 5, 5),)
    assert json.loads(json.dumps(result.to_json()))["limit_hit"] == "timeout"


def test_undecodable_output_becomes_replacement_characters() -> None:
    collector = Collector(100)
    collector.take(Output("stdout", 0, b"\xff\x00a"))
    info = ProcessInfo(id="p_1", pid=1, argv=["x"], state="exited", started_at=0, exit_code=0)
    assert collector.result(info).stdout == "\ufffd\0a"
    assert collector.result(info).stdout_bytes == b"\xff\x00a"


def test_sandbox_options_become_a_spec() -> None:
    spec = options.sandbox_spec("host", {"memory": "1g", "disk": 20, "labels": {"a": "b"}, "mounts": ["/tmp:/mnt:ro"]})
    assert (spec.limits.memory_mib, spec.limits.disk_mib, spec.mounts[0].mode) == (1024, 20, "ro")
    assert options.body(spec)["labels"] == {"a": "b"}
    assert "env" not in options.body(spec)


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory": "much"},
        {"pids": 1},
        {"cpus": float("nan")},
        {"name": "No!"},
        {"env": {"a=b": ""}},
        {"env": {"a": 1}},
        {"ttl_seconds": -1},
    ],
)
def test_wrong_options_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        options.sandbox_spec("host", wrong)  # type: ignore[arg-type]


def test_an_option_that_does_not_exist_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="memry"):
        options.sandbox_spec("host", {"memry": 1})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(TypeError, match="timeout"):
        options.process_spec(["x"], {"timeout": 1})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize("argv", [[], [""], ["a\0b"], ["x", "y" * (3 << 20)]])
def test_commands_that_no_kernel_takes(argv: list[str]) -> None:
    with pytest.raises(InvalidError):
        options.process_spec(argv, {})


def test_a_command_as_a_list_says_how_it_is_meant() -> None:
    with pytest.raises(InvalidError, match="word by word") as caught:
        options.process_spec([["ls", "-l"]], {})  # type: ignore[list-item]
    assert "exec(*words)" in (caught.value.remedy or "")


def test_a_language_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(InvalidError) as caught:
        code_options.context_body({"language": "ruby"})  # type: ignore[typeddict-item]
    assert caught.value.remedy == "one of: python, javascript, bash"


def test_mounts() -> None:
    assert options.parse_mount("/a:/b").mode == "rw"
    assert options.parse_mount("x:/b").source.startswith("/")
    for wrong in ("/a", "/a:/b:wo", "a:b:c:d", ":/b"):
        with pytest.raises(InvalidError):
            options.parse_mount(wrong)
    with pytest.raises(UnavailableError):
        options.parse_mount("/a:/b:cow")


def test_names_of_any_bytes_travel() -> None:
    assert wire.target("/x", {"path": "a\udcff\n &", "n": None, "yes": True}) == "/x?path=a%FF%0A%20%26&yes=1"
    assert wire.encode({"p": "\udcff"}) == b'{"p":"\\udcff"}'
    assert wire.decode(b'{"p":"\\udcff"}', dict[str, str]) == {"p": "\udcff"}
    with pytest.raises(InvalidError):
        wire.target("/x", {"path": "\ud800"})


@pytest.mark.parametrize("ref", ["", "..", "a/b", "/"])
def test_references_cannot_leave_their_place_in_the_path(ref: str) -> None:
    with pytest.raises(InvalidError):
        wire.segment(ref)


def test_answers_of_another_shape_say_what_to_do() -> None:
    with pytest.raises(VersionMismatchError) as caught:
        wire.decode(b"[]", ProcessInfo)
    assert "cloche node stop" in (caught.value.remedy or "")
    assert wire.error_from(502, b"<html>").message.startswith("the node answered 502")
    with pytest.raises(VersionMismatchError):
        wire.check_version([(b"Cloche-Api-Version", b"2")])


@pytest.mark.parametrize(
    "message", ["no such route: GET /v1/stats", "template: object contains unknown field `template`"]
)
def test_what_an_older_node_does_not_know_says_what_to_do(message: str) -> None:
    error = wire.error_from(404, json.dumps({"error": {"code": "not_found", "message": message}}).encode())
    assert "cloche node stop" in (error.remedy or "")
