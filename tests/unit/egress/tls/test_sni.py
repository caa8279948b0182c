"""The first bytes of a TLS connection, as libraries send them, in pieces, and as somebody sends them who wants two
parsers to disagree."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.egress.tls.sni import MAX_HELLO_BYTES, BadHelloError, ClientHello, NeedMore, NotTls
from tests.unit.egress.tls import hello_making as made

CORPUS = sorted(made.FOLDER.glob("*.bin"))
KINDS = {"ok": ClientHello, "more": NeedMore, "not": NotTls, "bad": BadHelloError}


def parsed(data: bytes) -> object:
    try:
        return ClientHello.parse(data)
    except BadHelloError as error:
        return error


def test_every_file_of_the_corpus_is_what_its_name_says():
    assert {path.stem for path in CORPUS} == set(made.MADE)
    for path in CORPUS:
        assert isinstance(parsed(path.read_bytes()), KINDS[path.stem.partition("-")[0]]), path.stem


@pytest.mark.parametrize(("file", "sni"), [
    ("ok-plain", "pypi.example"), ("ok-two-records", "pypi.example"), ("ok-many-records", "pypi.example"),
    ("ok-large", "pypi.example"), ("ok-grease", "pypi.example"), ("ok-ech", "pypi.example"), ("ok-esni", None),
    ("ok-no-extensions", None), ("ok-no-sni", None), ("ok-trailing-dot", "pypi.example."),
    ("ok-upper-case", "PYPI.EXAMPLE"), ("ok-address", "192.0.2.1"), ("ok-address6", "2001:db8::1"),
    ("ok-early-data", "pypi.example"),
])  # fmt: skip
def test_the_name_is_found_where_it_is(file, sni):
    hello = parsed((made.FOLDER / f"{file}.bin").read_bytes())
    assert isinstance(hello, ClientHello)
    assert hello.sni == sni
    assert hello.has_ech == (file in ("ok-ech", "ok-esni"))


def test_versions_that_only_teach_servers_tolerance_are_none():
    assert ClientHello.parse(made.MADE["ok-grease"]).version == 0x0304
    assert ClientHello.parse(made.MADE["ok-tls10"]).version == 0x0301


def test_early_data_is_not_the_hellos():
    hello = ClientHello.parse(made.MADE["ok-early-data"])
    assert hello.record_bytes == len(made.MADE["ok-plain"])


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_the_ssl_module_sends_is_understood(newest):
    data = made.from_ssl("files.example", newest=newest, alpn=["h2", "http/1.1"])
    hello = ClientHello.parse(data)
    assert hello == ClientHello("files.example", ("h2", "http/1.1"), int(newest), False, len(data))
    assert ClientHello.parse(made.from_ssl(None)).sni is None
    assert ClientHello.parse(made.from_ssl("bücher.example")).sni == "xn--bcher-kva.example"


@pytest.mark.parametrize("name", [name for name in made.MADE if name.startswith("ok") and name != "ok-early-data"])
def test_every_beginning_of_a_hello_asks_for_more_and_says_how_much(name):
    data = made.MADE[name]
    whole = ClientHello.parse(data)
    have = 0
    while have < len(data):
        answer = ClientHello.parse(data[:have])
        assert isinstance(answer, NeedMore)
        assert have < answer.at_least <= len(data)
        assert ClientHello.parse(data[: answer.at_least - 1]) == answer or answer.at_least - 1 < have
        have = answer.at_least
    assert ClientHello.parse(data + b"more") == whole


def test_a_hello_never_needs_more_than_its_bound():
    endless = made.record(b"\x01\x00\xff\xf0" + bytes(16000)) + made.record(bytes(1 << 14)) * 4
    assert isinstance(parsed(endless), BadHelloError)
    assert len(endless) > MAX_HELLO_BYTES


@given(st.binary(max_size=300))
def test_any_bytes_get_an_answer(data):
    assert isinstance(parsed(data), ClientHello | NeedMore | NotTls | BadHelloError)


@given(st.sampled_from(sorted(made.MADE)), st.data())
def test_any_change_of_a_hello_gets_an_answer_and_never_two_names(name, data):
    hello = bytearray(made.MADE[name][:2000])
    for _ in range(data.draw(st.integers(1, 4))):
        if hello:
            hello[data.draw(st.integers(0, len(hello) - 1))] = data.draw(st.integers(0, 255))
    answer = parsed(bytes(hello))
    if isinstance(answer, ClientHello) and answer.sni is not None:
        assert hello.replace(b"\x16", b"").isascii() or answer.sni.isascii()


@given(st.integers(2, 200))
def test_where_records_are_cut_makes_no_difference(size):
    whole = made.records(made.message(made.names(made.NAME) + made.VERSIONS), size)
    assert ClientHello.parse(whole).sni == "pypi.example"
