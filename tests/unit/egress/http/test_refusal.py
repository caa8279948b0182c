"""What code reads when it is refused: valid HTTP whatever the names in it are, and a command that helps."""

from __future__ import annotations

import json
import shlex
import ssl

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.egress.http import refusal
from tests.unit.egress.tls.hello_making import from_ssl


def read(answer: bytes) -> tuple[h11.Response, dict]:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(answer)
    head, body = connection.next_event(), b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert connection.trailing_data[0] == b""
    return head, json.loads(body)["error"]


def test_a_refusal_says_what_and_how_to_allow_it():
    remedy = refusal.allowing("box", "api.example")
    head, error = read(refusal.forbidden("api.example", 443, rule="default", method="GET", path="/v1", remedy=remedy))
    assert head.status_code == 403
    assert head.reason == (
        b"Forbidden by network policy (the egress policy of this sandbox does not allow api.example:443; try: "
        b"cloche policy allow box api.example)"
    )
    assert dict(head.headers)[b"cloche-egress"] == b'denied; rule="default"'
    assert error == {
        "code": "egress_denied", "message": "the egress policy of this sandbox does not allow api.example:443",
        "host": "api.example", "port": 443, "method": "GET", "path": "/v1", "rule": "default",
        "remedy": "cloche policy allow box api.example",
    }  # fmt: skip


@pytest.mark.parametrize("word", ["a.example:8443", "a.example@10.0.0.1", "[2001:db8::1]:443", "a; rm -r $HOME"])
def test_the_remedy_is_one_word_for_a_shell(word):
    assert shlex.split(refusal.allowing("box", word)) == ["cloche", "policy", "allow", "box", word]


def test_what_no_word_of_a_policy_would_allow_has_no_remedy():
    assert refusal.allowing("box", "") == ""
    assert "remedy" not in read(refusal.forbidden("a.example", 443))[1]


@given(st.text(), st.text(), st.text())
def test_no_text_breaks_the_answer(host, rule, path):
    head, error = read(refusal.forbidden(host, 1, rule=rule, path=path, method=path, remedy=host))
    assert head.status_code == 403
    assert all(len(value) < 1100 for value in error.values() if isinstance(value, str))


def test_who_has_used_up_a_budget_is_told_its_word():
    head, error = read(refusal.limited("bytes_out", "the 5 bytes are used up"))
    assert (head.status_code, error["code"], error["limit"]) == (429, "egress_limit", "bytes_out")
    assert error["remedy"] == "cloche policy set, with a larger out="
    assert head.reason == b"Too Many Requests (the 5 bytes are used up; try: cloche policy set, with a larger out=)"
    assert "remedy" not in read(refusal.limited("lookups", "too many"))[1]


def test_other_answers_have_their_own_codes():
    head, error = read(refusal.answer(502, "egress_failed", "nobody answers", details={"host": "a.example"}))
    assert (head.status_code, error["code"], error["host"]) == (502, "egress_failed", "a.example")


def test_an_alert_is_understood_by_the_ssl_module():
    context = ssl.create_default_context()
    incoming = ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    incoming.write(refusal.tls_alert())
    with pytest.raises(ssl.SSLError, match="ACCESS_DENIED"):
        connection.do_handshake()
    assert from_ssl("a.example")
