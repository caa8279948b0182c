"""Strings that stand for bytes, in both directions of the JSON wire."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.guest_api import bounds, text
from cloche.model.errors import GuestError, InvalidError
from cloche.model.file import FileInfo
from cloche.model.process import ProcessInfo, ProcessSpec

VECTORS = Path(__file__).parents[3] / "guest" / "testdata" / "vectors"


def test_golden_strings() -> None:
    for vector in json.loads((VECTORS / "text.json").read_text()):
        raw = bytes.fromhex(vector["bytes_hex"])
        assert text.path_bytes(vector["json"]) == raw
        assert raw.decode("utf-8", "surrogateescape") == vector["json"]
        assert text.decode(text.encode(vector["json"]), str) == vector["json"]


@pytest.mark.parametrize(("name", "kind", "check"), [("fileinfo.json", FileInfo, bounds.file),
                                                      ("process.json", ProcessInfo, bounds.process)])  # fmt: skip
def test_golden_shapes(name: str, kind: type, check) -> None:
    for vector in json.loads((VECTORS / name).read_text()):
        value = text.decode(json.dumps(vector).encode(), kind)
        check(value)
        assert json.loads(text.encode(value)) == vector


@given(st.binary())
def test_any_bytes_survive(raw: bytes) -> None:
    spec = ProcessSpec(argv=[os.fsdecode(raw)], env={os.fsdecode(raw): "x"})
    encoded = text.encode(spec)
    assert text.decode(encoded, ProcessSpec) == spec
    assert text.path_bytes(text.decode(encoded, ProcessSpec).argv[0]) == raw


@pytest.mark.parametrize("lone", ["\ud800", "\udc7f", "\udd00", "\udfff"])
def test_a_surrogate_that_stands_for_no_byte(lone: str) -> None:
    with pytest.raises(InvalidError):
        text.encode({"a": lone})
    with pytest.raises(InvalidError):
        text.path_bytes(lone)
    with pytest.raises(GuestError):
        text.decode(json.dumps([lone]).encode(), list[str])


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"nul", b'["\\udc80",NaN]', b'["\\udc80"', b"[" * 200_000, b'["\\udc80",' + b"[" * 200_000,
     b'["\\udc80",' + b"9" * 10_000 + b"]", b'["\\udc80\xff"]', b"{}", b'["\\udc80"' + b",[]" * 600_000 + b"]"],
)  # fmt: skip
def test_what_is_no_list_of_strings(data: bytes) -> None:
    with pytest.raises(GuestError):
        text.decode(data, list[str])


@pytest.mark.parametrize(
    "change",
    [{"started_at": 1e300}, {"started_at": -1}, {"pid": -1}, {"exit_code": 256}, {"id": "p_short"}, {"id": "../../x"},
     {"state": "exited"}, {"state": "odd"}, {"exit_code": 0}, {"stdout_bytes": -1}, {"cwd": "x" * 100_000},
     {"usage": {"cpu_seconds": -1}}, {"signal": 1000}, {"error": "x" * 5000}],
)  # fmt: skip
def test_impossible_processes(change: dict[str, object]) -> None:
    good = {"id": "p_" + "0" * 26, "pid": 3, "argv": ["true"], "state": "running", "started_at": 1.0}
    bounds.process(text.decode(json.dumps(good).encode(), ProcessInfo))
    with pytest.raises(GuestError):
        bounds.process(text.decode(json.dumps({**good, **change}).encode(), ProcessInfo))


@pytest.mark.parametrize(
    "change",
    [{"name": "../up"}, {"name": ".."}, {"name": "a\0"}, {"size": -1}, {"mode": 0o10000}, {"modified_at": 1e200},
     {"path": "/" + "x" * 100_000}, {"type": "door"}, {"size": 1 << 64}],
)  # fmt: skip
def test_impossible_files(change: dict[str, object]) -> None:
    good = {"path": "/a", "name": "a", "type": "file", "size": 1, "mode": 420, "uid": 0, "gid": 0, "modified_at": 1.0}
    bounds.file(text.decode(json.dumps(good).encode(), FileInfo))
    with pytest.raises(GuestError):
        bounds.file(text.decode(json.dumps({**good, **change}).encode(), FileInfo))
