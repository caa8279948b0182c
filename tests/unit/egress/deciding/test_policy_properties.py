"""What holds for all policies: a decision stays when more is known, and is that of the plain reading of the rules."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.egress.deciding import ranges
from cloche.egress.deciding.policy import Attempt, Undecided, compile_policy, remedy_words
from cloche.model.egress import EgressPolicy, EgressRule
from cloche.model.egress_words import parse_rule
from tests.unit.egress.deciding import policy_strategies as some

FIELDS = ("address", "protocol", "method", "path")


def made(policy: EgressPolicy, secrets=()):
    return compile_policy(policy, secrets, some.presets, some.OWN)


def more_known(attempt: Attempt, full: Attempt) -> list[Attempt]:
    """Whatever else could be learnt of it, in any order."""
    known = [attempt]
    for field in FIELDS:
        if getattr(attempt, field) is None and getattr(full, field) is not None:
            known += [replace(item, **{field: getattr(full, field)}) for item in known]
    return [item for item in known if item.protocol in ("tls", "http") or (item.method is None and item.path is None)]


@settings(max_examples=150, deadline=None)
@given(some.POLICIES, some.SECRETS, some.ATTEMPTS, some.ATTEMPTS)
def test_what_is_learnt_later_changes_no_decision(policy, secrets, attempt, other):
    compiled = made(policy, secrets)
    first = compiled.decide(attempt)
    if isinstance(first, Undecided):
        assert first.needs
        return
    learnt = other if not attempt.is_address else replace(other, address=None)
    for known in more_known(attempt, learnt):
        later = compiled.decide(known)
        assert not isinstance(later, Undecided)
        if later.action == first.action == "allow":
            assert (later.rule, later.tls, later.opened) == (first.rule, first.tls, first.opened)
        elif later.action != first.action:
            address = known.host if known.is_address else known.address
            assert later.action == "deny" and later.rule == ranges.forbidden(address, some.OWN)


@settings(max_examples=100, deadline=None)
@given(some.POLICIES, some.SECRETS, some.ATTEMPTS)
def test_what_is_asked_for_leads_to_a_decision(policy, secrets, attempt):
    compiled = made(policy, secrets)
    answers = {
        "address": {"address": "1.1.1.1"},
        "protocol": {"protocol": "tls"},
        "request": {"protocol": attempt.protocol or "tls", "method": "GET", "path": "/a"},
    }
    for _ in range(4):
        decision = compiled.decide(attempt)
        if not isinstance(decision, Undecided):
            return
        learnt = {}
        for need in decision.needs:
            missing = {key: value for key, value in answers[need].items() if getattr(attempt, key) is None}
            assert missing
            learnt |= missing
        attempt = replace(attempt, **learnt)
    raise AssertionError("never decided")


@settings(max_examples=150, deadline=None)
@given(some.POLICIES, some.SECRETS, some.ATTEMPTS, some.ATTEMPTS)
def test_names_that_are_not_answered_are_never_reached(policy, secrets, attempt, other):
    compiled = made(policy, secrets)
    if attempt.is_address or compiled.may_resolve(attempt.host):
        return
    assert not compiled.may_look_up(attempt.host)
    for known in more_known(attempt, other):
        decision = compiled.decide(known)
        assert not isinstance(decision, Undecided) and decision.action == "deny"


@settings(max_examples=100, deadline=None)
@given(some.POLICIES, some.ATTEMPTS)
def test_forbidden_addresses_are_reached_only_where_a_rule_names_them(policy, attempt):
    decision = made(policy).decide(attempt)
    address = attempt.host if attempt.is_address else attempt.address
    if (
        not isinstance(decision, Undecided)
        and decision.action != "deny"
        and ranges.forbidden(address or "1.1.1.1", some.OWN)
    ):
        assert ranges.is_opened(address, decision.opened)


@settings(max_examples=100, deadline=None)
@given(some.POLICIES, some.ATTEMPTS)
def test_a_rule_that_denies_all_in_front_denies_all(policy, attempt):
    closed = EgressPolicy(default=policy.default, rules=[EgressRule(action="deny"), *policy.rules])
    assert made(closed).decide(attempt).action == "deny"


@settings(max_examples=100, deadline=None)
@given(some.POLICIES, some.SECRETS, some.ATTEMPTS)
def test_a_remedy_in_front_allows_what_was_refused(policy, secrets, attempt):
    word = remedy_words(attempt, some.OWN)
    decision = made(policy, secrets).decide(attempt)
    if word is None or isinstance(decision, Undecided) or decision.action != "deny":
        return
    mended = EgressPolicy(default=policy.default, rules=[parse_rule(word), *policy.rules])
    after = made(mended, secrets).decide(attempt)
    assert isinstance(after, Undecided) or after.action == "allow"


@settings(max_examples=150, deadline=None)
@given(some.POLICIES, st.text(max_size=60), st.integers(0, 70000), st.text(max_size=20), st.text(max_size=40))
def test_deciding_never_raises(policy, host, port, address, path):
    compiled = made(policy)
    for is_address in (True, False):
        compiled.decide(Attempt(host=host, is_address=is_address, port=port, address=address, method=path, path=path))
        compiled.decide(Attempt(host=host, is_address=is_address, port=port, protocol="tls", method="GET", path=path))
    compiled.may_resolve(host)
    remedy_words(Attempt(host=host, is_address=False, port=port, address=address))


@settings(max_examples=100, deadline=None)
@given(st.lists(some.rules(), max_size=5), some.ATTEMPTS)
def test_rules_that_allow_only_add(rules, attempt):
    """Without one that denies, more rules reach no less."""
    allowing = [rule for rule in rules if rule.action == "allow"]
    for count in range(len(allowing)):
        fewer = made(EgressPolicy(rules=allowing[:count])).decide(attempt)
        if not isinstance(fewer, Undecided) and fewer.action == "allow":
            assert made(EgressPolicy(rules=allowing)).decide(attempt) == fewer
