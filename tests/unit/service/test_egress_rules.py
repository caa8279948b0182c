"""What becomes of a policy when a rule comes or goes."""

from __future__ import annotations

import pytest

from cloche.model.egress import MAX_RULES, Ask, EgressPolicy, EgressRule
from cloche.model.errors import LimitHitError, NotFoundError
from cloche.model.sandbox import SandboxSpec
from cloche.service.egress_rules import allowing, asking, with_rule, without_rule

A, B = EgressRule(hosts=["a.example"]), EgressRule(hosts=["b.example"])
NOT_A = EgressRule(action="deny", hosts=["a.example"])


def rules(policy: EgressPolicy | None) -> list[EgressRule]:
    assert policy is not None
    return policy.rules


def test_a_rule_stands_where_it_is_put():
    assert rules(with_rule(EgressPolicy(rules=[A]), B)) == [B, A]
    assert rules(with_rule(EgressPolicy(rules=[A]), B, 1)) == [A, B]
    assert rules(with_rule(EgressPolicy(rules=[A]), B, 1000)) == [A, B]


def test_a_rule_that_is_there_is_moved():
    assert rules(with_rule(EgressPolicy(rules=[A, B]), B)) == [B, A]
    assert rules(with_rule(EgressPolicy(rules=[A, B]), EgressRule(hosts=["b.example"], note="why"))) == [
        EgressRule(hosts=["b.example"], note="why"), A]  # fmt: skip


def test_the_last_word_on_the_same_hosts_is_the_only_one():
    assert rules(with_rule(EgressPolicy(rules=[A, B]), NOT_A)) == [NOT_A, B]


def test_the_rest_of_the_policy_stays():
    assert with_rule(EgressPolicy(default="ask"), A) == EgressPolicy(default="ask", rules=[A])


def test_there_are_only_so_many():
    full = EgressPolicy(rules=[EgressRule(hosts=[f"{number}.example"]) for number in range(MAX_RULES)])
    with pytest.raises(LimitHitError):
        with_rule(full, A)
    assert rules(with_rule(full, EgressRule(hosts=["7.example"])))[0].hosts == ["7.example"]


def test_a_closed_one_is_opened_by_what_allows_or_asks():
    assert with_rule(None, A) == EgressPolicy(rules=[A])
    assert with_rule(None, NOT_A) is None


def test_a_rule_goes_whatever_its_note_is():
    assert without_rule(EgressPolicy(rules=[EgressRule(hosts=["a.example"], note="x"), B]), A).rules == [B]
    for policy in (None, EgressPolicy(rules=[B]), EgressPolicy(rules=[NOT_A])):
        with pytest.raises(NotFoundError):
            without_rule(policy, A)


@pytest.mark.parametrize(
    ("ask", "rule"),
    [
        ({"host": "a.example", "port": 443, "protocol": "tls"},
         EgressRule(hosts=["a.example"], ports=["443"], protocols=["tls"])),
        ({"host": "1.2.3.4", "port": 22, "protocol": "tcp"},
         EgressRule(cidrs=["1.2.3.4"], ports=["22"], protocols=["tcp"])),
        ({"host": "2001:db8::1", "port": 80}, EgressRule(cidrs=["2001:db8::1"], ports=["80"])),
        ({"host": "a.example", "port": 80, "protocol": "http", "method": "POST"},
         EgressRule(hosts=["a.example"], ports=["80"], protocols=["http"], methods=["POST"])),
    ],
)  # fmt: skip
def test_always_allows_what_was_asked_and_no_more(ask, rule):
    assert allowing(Ask(id="1", sandbox_id="sb", **ask)) == rule


def test_always_keeps_what_the_rule_that_asks_has_given():
    asks = EgressRule(action="ask", hosts=["*.example"], ports=["1-65535"], addresses=["10.0.0.0/8"], tls="inspect")
    ask = Ask(id="1", sandbox_id="sb", host="a.example", port=443, protocol="tls", method="GET", path="/")
    decided = asking(SandboxSpec(egress=EgressPolicy(rules=[asks])), ask)
    made = allowing(ask, decided)
    assert (made.addresses, made.tls, made.hosts) == (["10.0.0.0/8"], "inspect", ["a.example"])
    assert asking(SandboxSpec(), ask) is None
    assert asking(SandboxSpec(egress=EgressPolicy()), ask) is None
