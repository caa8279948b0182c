"""Decoding: any bytes are a value or an InvalidError that names a field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloche.api import decode
from cloche.api.files import ReadQuery, WriteQuery
from cloche.api.sandboxes import CreateSandbox, FindSandboxes
from cloche.model.errors import InvalidError
from cloche.model.process import ProcessSpec


@given(st.binary(max_size=300))
def test_any_bytes_are_a_body_or_refused(data: bytes) -> None:
    try:
        assert isinstance(decode.body(data, ProcessSpec), ProcessSpec)
    except InvalidError as error:
        assert error.details["field"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.sampled_from([*CreateSandbox.__struct_fields__, "unknown"])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(FIELDS, json_values, max_size=4))
def test_any_object_is_a_sandbox_or_refused_by_field(value: dict[str, Any]) -> None:
    try:
        decode.body(msgspec.json.encode(value), CreateSandbox)
    except InvalidError as error:
        assert error.details["field"] == "body" or error.details["field"].split(".")[0].split("[")[0] in value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_query_or_refused(raw: bytes) -> None:
    try:
        decode.query(raw, FindSandboxes)
    except InvalidError as error:
        assert error.details["field"]


@given(st.binary(min_size=1, max_size=60).filter(lambda path: b"\0" not in path))
def test_a_path_of_any_bytes_is_handed_on_unchanged(path: bytes) -> None:
    raw = b"path=" + "".join(f"%{byte:02x}" for byte in path).encode()
    asked = decode.query(raw, ReadQuery)
    again = decode.query(decode.again(asked).encode(), ReadQuery)
    assert asked == again
    assert asked.path.encode("utf-8", "surrogateescape") == path


def test_defaults_are_spelled_out_for_the_guest() -> None:
    asked = decode.query(b"path=a+b&append=true", WriteQuery)
    assert decode.again(asked) == "path=a%20b&atomic=1&append=1&create_parents=1"


def test_an_empty_body_is_an_empty_object() -> None:
    assert decode.body(b"", CreateSandbox) == CreateSandbox()
    with pytest.raises(InvalidError) as refused:
        decode.body(b"", ProcessSpec)
    assert refused.value.details == {"field": "argv"}


def test_surrogates_that_stand_for_no_byte_are_refused() -> None:
    assert decode.body(b'{"argv": ["\\udc80"]}', ProcessSpec).argv == ["\udc80"]
    for escape in (b"\\ud800", b"\\udc00"):
        with pytest.raises(InvalidError):
            decode.body(b'{"argv": ["' + escape + b'"]}', ProcessSpec)


def test_surrogates_in_names_and_numbers_are_refused() -> None:
    for body in (b'{"\\udc80": 1}', b'{"argv": ["a"], "env": 1, "\\udc80": 1}', b'{"argv": "\\udc80"}'):
        with pytest.raises(InvalidError):
            decode.body(body, ProcessSpec)
    for raw in (b"%ff=1", b"limit=%ff"):
        with pytest.raises(InvalidError):
            decode.query(raw, FindSandboxes)


def test_long_queries_are_refused() -> None:
    for raw in (b"label=" + b"x" * (64 << 10), b"&".join([b"label=a"] * 300)):
        with pytest.raises(InvalidError):
            decode.query(raw, FindSandboxes)
