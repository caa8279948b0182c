"""DNS messages of code and of resolvers: what is understood, what is refused, and what is left out of an answer."""

from __future__ import annotations

import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.egress.outward import dnswire
from cloche.egress.outward.dnswire import BadMessageError, Query

QUERY = Query(7, "a.example", "TXT")


def question(name: str = "a.example.", kind: str = "TXT", **more) -> bytes:
    return dns.message.make_query(name, kind, id=7, **more).to_wire()


def answered(asked: bytes, *records: tuple[str, str, str], code: str = "NOERROR") -> bytes:
    answer = dns.message.make_response(dns.message.from_wire(asked), recursion_available=True)
    answer.set_rcode(dns.rcode.from_text(code))
    answer.answer += [dns.rrset.from_text(name, 60, "IN", kind, text) for name, kind, text in records]
    return answer.to_wire()


def test_a_query_is_read():
    assert dnswire.parse_query(question("A.Example.")) == QUERY
    assert dnswire.parse_query(question(".", "NS")) == Query(7, "", "NS")
    assert dnswire.parse_query(question(kind="TYPE65")).is_carried is False
    assert dnswire.parse_query(question(use_edns=0)) == QUERY


@pytest.mark.parametrize("message", [
    b"", b"x", question()[:-1], question() + b"x", answered(question()), question() * 300,
    question()[:4] + b"\0\0" + question()[6:], question()[:4] + b"\0\2" + question()[6:] + question()[12:],
    question(rdclass="CH"), question("a\\.b.example."), question("a\\032b.example."),
    question()[:2] + b"\x29\0" + question()[4:],
])  # fmt: skip
def test_what_is_no_single_question_is_refused(message):
    with pytest.raises(BadMessageError):
        dnswire.parse_query(message)


@pytest.mark.parametrize("code", ["NXDOMAIN", "SERVFAIL", "REFUSED", "NOERROR"])
def test_a_refusal_answers_the_question(code):
    answer = dns.message.from_wire(dnswire.refuse(QUERY, code))
    assert dns.message.from_wire(question()).is_response(answer)
    assert dns.rcode.to_text(answer.rcode()) == code
    assert not answer.answer


def test_an_answer_is_carried_with_the_codes_id_and_without_what_leads_past_the_door():
    asked = dnswire.ask("a.example", "TXT", 999)
    said = answered(asked, ("a.example.", "TXT", '"hello"'), ("a.example.", "A", "192.0.2.1"))
    carried = dns.message.from_wire(dnswire.carry(QUERY, said, 999))
    assert carried.id == 7
    assert [str(rrset) for rrset in carried.answer] == ['a.example. 60 IN TXT "hello"']


@pytest.mark.parametrize("said", [
    answered(dnswire.ask("b.example", "TXT", 999)), answered(dnswire.ask("a.example", "MX", 999)),
    answered(dnswire.ask("a.example", "TXT", 998)), dnswire.ask("a.example", "TXT", 999), b"", bytes(70_000),
])  # fmt: skip
def test_an_answer_to_another_question_is_refused(said):
    with pytest.raises(BadMessageError):
        dnswire.carry(QUERY, said, 999)


def test_addresses_are_followed_along_aliases():
    asked = dnswire.ask("a.example", "A", 5)
    said = answered(asked, ("a.example.", "CNAME", "B.example."), ("b.example.", "CNAME", "c.example."),
                    ("c.example.", "A", "192.0.2.1"), ("d.example.", "A", "192.0.2.9"))  # fmt: skip
    assert dnswire.addresses(said, "a.example", "A", 5) == (["192.0.2.1"], 60)


def test_aliases_in_a_circle_lead_nowhere():
    asked = dnswire.ask("a.example", "A", 5)
    said = answered(asked, ("a.example.", "CNAME", "b.example."), ("b.example.", "CNAME", "a.example."))
    assert dnswire.addresses(said, "a.example", "A", 5)[0] == []


def test_no_name_is_no_address_and_no_answer_is_an_error():
    asked = dnswire.ask("a.example", "AAAA", 5)
    assert dnswire.addresses(answered(asked, code="NXDOMAIN"), "a.example", "AAAA", 5) == ([], 0)
    with pytest.raises(BadMessageError):
        dnswire.addresses(answered(asked, code="SERVFAIL"), "a.example", "AAAA", 5)


@pytest.mark.parametrize("name", ["a..example", "a\\.b", "é.example", "a" * 64 + ".example", "a." * 130])
def test_what_is_no_name_is_not_asked(name):
    with pytest.raises(BadMessageError):
        dnswire.ask(name, "A", 1)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_query_or_refused(data):
    with_header = b"\0\7\1\0\0\1\0\0\0\0\0\0" + data
    for message in (data, with_header):
        try:
            query = dnswire.parse_query(message)
        except BadMessageError:
            continue
        assert dnswire.parse_query(dnswire.ask(query.name, query.kind, 3)).name == query.name
        assert dns.message.from_wire(dnswire.refuse(query)).id == query.id


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_refused(data):
    header = b"\0\7\x81\x80\0\1\0\1\0\0\0\0\1a\7example\0\0\x10\0\1"
    for call in (lambda m: dnswire.carry(QUERY, m, 7), lambda m: dnswire.addresses(m, "a.example", "A", 7)):
        for message in (data, header + data):
            try:
                call(message)
            except BadMessageError:
                pass
