"""Globs of paths, and paths that a server may read otherwise than the door."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.egress.deciding.paths import PathGlob, plain_path, without_query

GLOBS = [
    ("/v1/a", ["/v1/a"], ["/v1/a/", "/v1/b", "/v1", "/"]),
    ("/", ["/"], ["/a"]),
    ("/*", ["/a"], ["/", "/a/b", "/a/"]),
    ("/v1/*", ["/v1/a", "/v1/a.b"], ["/v1/", "/v1", "/v1/a/b"]),
    ("/v1/**", ["/v1/", "/v1/a", "/v1/a/b/", "/v1/a/b/c"], ["/v1", "/v12/a", "/"]),
    ("/**", ["/", "/a", "/a/b"], []),
    ("/**/x", ["/x", "/a/x", "/a/b/x"], ["/a/y", "/x/a", "/xx"]),
    ("/a/**/b/*", ["/a/b/c", "/a/x/y/b/c", "/a/b/b/c"], ["/a/b", "/a/x/c"]),
    ("/a/**/b/**", ["/a/b/", "/a/x/b/y/z"], ["/a/b", "/a/x/b"]),
    ("/f-*.txt", ["/f-.txt", "/f-a.txt"], ["/f-a.txt2", "/f.txt", "/f-a/b.txt"]),
    ("/*a*b*", ["/xaybz", "/ab"], ["/ba", "/a"]),
    ("/aba*aba", ["/abaaba", "/abaxaba"], ["/aba", "/ababa"]),
    ("/with%20space", ["/with space"], ["/with%20space"]),
]


@pytest.mark.parametrize(("glob", "yes", "no"), GLOBS)
def test_globs(glob, yes, no):
    compiled = PathGlob(glob)
    assert [path for path in yes if not compiled.matches(path)] == []
    assert [path for path in no if compiled.matches(path)] == []


@pytest.mark.parametrize(("glob", "yes", "no"), [
    ("/v1/**", ["/v1", "/V1/", "/v1/A"], ["/v12", "/"]),
    ("/V1/a", ["/v1/a", "/v1/A/"], ["/v1/a/b", "/v1"]),
    ("/", ["/"], ["/a"]),
    ("/x/*", ["/X/a/"], ["/x", "/x/"]),
])  # fmt: skip
def test_what_a_server_may_take_for_it(glob, yes, no):
    compiled = PathGlob(glob)
    assert [path for path in yes if not compiled.resembles(path)] == []
    assert [path for path in no if compiled.resembles(path)] == []


@given(st.sampled_from([glob for glob, *_ in GLOBS]), st.from_regex(r"(/[ab1v]{0,2}){1,4}", fullmatch=True))
def test_what_matches_resembles(glob, path):
    compiled = PathGlob(glob)
    assert compiled.resembles(path) or not compiled.matches(path)


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("/", "/"),
        ("/a/b/", "/a/b/"),
        ("/a%20b", "/a b"),
        ("/torch-2.0%2Bcpu.whl", "/torch-2.0+cpu.whl"),
        ("/@scope/name", "/@scope/name"),
        ("/%40scope", "/@scope"),
        ("/caf%C3%A9", "/café"),
        ("/...", "/..."),
        ("/.hidden/x..y", "/.hidden/x..y"),
        ("/a:b,c=d&e", "/a:b,c=d&e"),
    ],
)
def test_ordinary_paths_have_one_reading(raw, plain):
    assert plain_path(raw) == plain


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "*",
        "a/b",
        "//",
        "/a//b",
        "/a/./b",
        "/a/..",
        "/a/../b",
        "/.",
        "/..",
        "/a/%2e%2e/b",
        "/a/%2E",
        "/%2e%2e%2fb",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a;x=1/b",
        "/a%3bx/b",
        "/a%252fb",
        "/a%00b",
        "/a%0ab",
        "/a%7fb",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%3fb",
        "/a%23b",
        "/a#b",
        "/a b",
        "/a\tb",
        "/a%c0%af",
        "/a%ff",
        "/caf\u00e9",
        "/a%ef%bc%8fb",  # a full-width slash, which some take for one
        "/" + "a" * 9000,
    ],
)
def test_paths_that_can_be_read_otherwise_have_none(raw):
    assert plain_path(raw) is None


def test_queries_are_not_of_the_path():
    assert without_query("/a?b=/../c") == "/a"
    assert without_query("?x") == "/"


@given(st.text(alphabet="/ab%2eEfF5cC.;\\*é?", max_size=40))
def test_what_is_plain_says_nothing_else_when_it_is_decoded_again(raw):
    plain = plain_path(without_query(raw))
    if plain is not None:
        assert plain.startswith("/") and "//" not in plain and "\\" not in plain and "%" not in plain
        assert not {".", ".."} & set(plain.split("/"))
        assert PathGlob("/**").matches(plain)


@given(st.text(alphabet="ab/*", max_size=12), st.text(alphabet="ab/", max_size=30))
def test_globs_of_any_form_end(glob, path):
    PathGlob("/" + glob).matches("/" + path)
