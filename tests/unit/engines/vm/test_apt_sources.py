"""The machine's own package sources, in both notations."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.engines.vm import apt_sources
from cloche.engines.vm.apt_sources import Source

LINES = """
# deb http://commented.example/ stable main
deb http://one.example/debian stable main contrib # the rest is a comment
deb-src http://one.example/debian stable main
deb [ arch=amd64,arm64 signed-by=/usr/share/keyrings/a.gpg ] https://two.example/debian/ stable-updates non-free main
deb [check-valid-until=no] http://three.example stable main
deb cdrom:[Debian 12]/ stable main
deb file:/srv/mirror stable main
deb http://no-main.example stable contrib
deb http://flat.example ./
deb http://short.example
deb   http://up.example  ../../etc  main
"""

STANZAS = """# a comment
Types: deb deb-src
URIs: http://one.example/debian
# another
  https://two.example/debian/
Suites: stable stable-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/a.gpg

Types: deb
Enabled: no
URIs: http://off.example/
Suites: stable
Components: main

types: deb
uris: http://three.example
suites: stable
components: main
architectures: arm64
check-valid-until: no
signed-by:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 AAAA
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb-src
URIs: http://source.example
Suites: stable
Components: main
"""


def test_one_line_sources() -> None:
    assert apt_sources.parse_lines(LINES) == [
        Source("http://one.example/debian", "stable"),
        Source("https://two.example/debian", "stable-updates", "/usr/share/keyrings/a.gpg", ("amd64", "arm64")),
        Source("http://three.example", "stable", check_valid_until=False),
    ]


def test_stanzas() -> None:
    *four, last = apt_sources.parse_stanzas(STANZAS)
    assert [(source.uri, source.suite, source.signed_by) for source in four] == [
        (uri, suite, "/usr/share/keyrings/a.gpg")
        for uri in ("http://one.example/debian", "https://two.example/debian")
        for suite in ("stable", "stable-updates")
    ]
    assert last[:2] == ("http://three.example", "stable")
    assert last.signed_by.splitlines()[:3] == ["-----BEGIN PGP PUBLIC KEY BLOCK-----", ".", "AAAA"]
    assert (last.architectures, last.check_valid_until) == (("arm64",), False)


def test_all_files_are_read_and_each_source_counts_once(tmp_path: Path) -> None:
    parts = tmp_path / "etc/apt/sources.list.d"
    parts.mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text("deb http://a.example s main\n")
    (parts / "b.list").write_text("deb http://b.example s main\ndeb http://a.example/ s main\n")
    (parts / "c.sources").write_text("Types: deb\nURIs: http://c.example\nSuites: s\nComponents: main\n")
    (parts / "d.sources").write_bytes(b"\xff\xfe\0Types\x80")
    (parts / "e.list.save").write_text("deb http://e.example s main\n")
    assert [source.uri for source in apt_sources.read(tmp_path)] == [
        "http://a.example", "http://b.example", "http://c.example"]  # fmt: skip
    assert apt_sources.read(tmp_path / "nothing") == []


@settings(deadline=None)
@given(st.text(max_size=300), st.sampled_from([LINES, STANZAS]), st.integers(0, 900))
def test_noise_is_passed_over(noise, text, at) -> None:
    for parse in (apt_sources.parse_lines, apt_sources.parse_stanzas):
        for source in parse(text[:at] + noise + text[at:]):
            assert apt_sources.is_web(source.uri) and apt_sources.is_suite(source.suite)


@pytest.mark.parametrize(
    "uri", ["", "http://", "ftp://x", "file:///x", "http://[", "http://x\n", "http://x y", "//x", "httpx://x"]
)
def test_what_is_no_web_address(uri) -> None:
    assert not apt_sources.is_web(uri)


@pytest.mark.parametrize("suite", ["", "..", "a/../b", "/", "./", "a/", "-x", "a b", "a?b", "a%2fb"])
def test_what_is_no_suite(suite) -> None:
    assert not apt_sources.is_suite(suite)
    assert apt_sources.is_suite("bookworm-security") and apt_sources.is_suite("bookworm/updates")
