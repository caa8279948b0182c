"""Budgets and who may connect, as words of a policy, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.model.egress import AcceptRule, EgressBudget, EgressPolicy, EgressRule
from cloche.model.egress_pairs import is_pair, pair_words, parse_accept, with_pairs
from cloche.model.egress_words import parse_policy, parse_rule, policy_of, policy_words
from cloche.model.errors import InvalidError
from cloche.model.limits import parse_size_bytes, size_words

PYPI = EgressRule(preset="pypi")
WORDS = [
    ("out=10m", EgressPolicy(budget=EgressBudget(bytes_out=10 << 20))),
    ("pypi,out=0", EgressPolicy(rules=[PYPI], budget=EgressBudget(bytes_out=0))),
    ("pypi,in=1g,connections=5", EgressPolicy(rules=[PYPI], budget=EgressBudget(bytes_in=1 << 30, connections=5))),
    ("connections=5,connections=60/min", EgressPolicy(budget=EgressBudget(connections=5, connections_per_minute=60))),
    ("rate=5m/s,allow", EgressPolicy(default="allow", budget=EgressBudget(bytes_per_second=5 << 20))),
    ("rate=1500/s", EgressPolicy(budget=EgressBudget(bytes_per_second=1500))),
    ("accept=web", EgressPolicy(accept=[AcceptRule(sandboxes=["web"])])),
    (
        "accept=web+test:80+8000-8100,accept=*:22",
        EgressPolicy(
            accept=[
                AcceptRule(sandboxes=["web", "test"], ports=["80", "8000-8100"]),
                AcceptRule(sandboxes=["*"], ports=["22"]),
            ]
        ),
    ),
]


@pytest.mark.parametrize(("text", "policy"), WORDS)
def test_words_and_policies(text, policy):
    assert parse_policy(text) == policy
    assert policy_words(policy) == text


@pytest.mark.parametrize(
    ("said", "same"),
    [
        ("pypi, OUT = 10MiB ,rate=1k", "pypi,out=10m,rate=1k/s"),
        ("connections=60/minute", "connections=60/min"),
        ("rate=1.5k/sec", "rate=1536/s"),
        ("accept= web + test : 80", "accept=web+test:80"),
        ("deny,out=1", "out=1"),
    ],
)
def test_other_ways_to_say_it(said, same):
    assert parse_policy(said) == parse_policy(same)
    assert policy_words(parse_policy(said)) == same


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("out=ten", "'out=ten': it is a size, such as out=10m"),
        ("out=-1", "a size"),
        ("in=", "a size, such as in=1g"),
        ("rate=5m/min", "a size in a second, such as rate=5m/s"),
        ("connections=5/s", "connections=600/min"),
        ("connections=many", "connections=100"),
        ("bytes_out=5", "there is no bytes_out=; there are out=, in=, connections=, rate=, accept="),
        ("!out=5", "it has no sign: out=5"),
        ("?accept=web", "it has no sign: accept=web"),
        ("out=1,out=2", "it is said twice"),
        ("accept=", "NAME:PORT"),
        ("accept=:80", "NAME:PORT"),
        ("accept=web:", "NAME:PORT"),
        ("accept=web:http", "'http' is neither a port"),
        ("accept=a b", "no name of a sandbox"),
        ("accept=web.sandbox:80", "the name alone: accept=web:80"),
        ("none,out=5", "stands alone"),
        (f"out={'9' * 21}", "a size"),
        (f"out={'9' * 18}t", "egress.budget.bytes_out"),
    ],
)
def test_what_is_wrong_is_said_of_the_word(text, said):
    with pytest.raises(InvalidError) as raised:
        parse_policy(f"{text},pypi")
    assert said in raised.value.message


def test_they_are_no_rules():
    with pytest.raises(InvalidError, match="'out=5m' is of a whole policy") as raised:
        parse_rule("out=5m")
    assert "policy set" in raised.value.remedy


@pytest.mark.parametrize(
    "rule", ["GET https://a.example/x=1", "https://a.example/out=1", "a.example:80", '{"note": "out=5"}', "pypi"]
)
def test_rules_are_no_pairs(rule):
    assert not is_pair(rule)
    parse_rule(rule)


def test_they_are_added_to_a_policy_that_is_there():
    policy = parse_policy("pypi,out=1m,in=1m,accept=web:80")
    assert policy_words(with_pairs(policy, ["out=2m", "accept=web:80", "accept=test"])) == (
        "pypi,out=2m,in=1m,accept=web:80,accept=test"
    )


def test_words_that_stand_apart():
    assert policy_of(["pypi", "out=1k", EgressRule(hosts=["a.example"]), "ask"]) == EgressPolicy(
        default="ask", rules=[PYPI, EgressRule(hosts=["a.example"])], budget=EgressBudget(bytes_out=1024)
    )
    with pytest.raises(InvalidError, match="stands alone"):
        policy_of(["none", "pypi"])


def test_who_lets_nobody_in_says_nothing():
    assert list(pair_words(EgressPolicy(accept=[AcceptRule(ports=["80"])]))) == []
    assert parse_accept("*") == AcceptRule(sandboxes=["*"])


COUNTS = st.one_of(st.none(), st.integers(0, (1 << 59)), st.integers(0, 1 << 20).map(lambda count: count << 20))
BUDGETS = st.builds(EgressBudget, **dict.fromkeys(EgressBudget.__struct_fields__, COUNTS))
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
ACCEPTS = st.builds(
    AcceptRule,
    sandboxes=st.lists(st.one_of(st.just("*"), NAMES), min_size=1, max_size=3),
    ports=st.lists(st.sampled_from(["80", "8000-8100"]), max_size=2),
)


@given(
    st.builds(
        EgressPolicy,
        default=st.sampled_from(["allow", "deny", "ask"]),
        rules=st.lists(st.just(PYPI), max_size=2),
        budget=BUDGETS,
        accept=st.lists(ACCEPTS, max_size=3),
    )
)
def test_every_policy_comes_back(policy):
    assert parse_policy(policy_words(policy)) == policy


@given(st.text(alphabet="outinrateconnectionsaccept=+:/*-.0123456789kmgt !?,", max_size=40))
def test_nothing_but_an_invalid_error_comes_out(text):
    try:
        policy = parse_policy(text)
    except InvalidError:
        return
    assert parse_policy(policy_words(policy)) == policy


@given(st.integers(0, 1 << 62))
def test_sizes_come_back(size_bytes):
    assert parse_size_bytes(size_words(size_bytes)) == size_bytes
