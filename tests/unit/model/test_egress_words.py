"""Policies as people type them, and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.model.egress import EgressPolicy, EgressRule
from cloche.model.egress_words import parse_policy, parse_rule, policy_words, rule_words
from cloche.model.errors import InvalidError
from tests.unit.egress.deciding import policy_strategies as some

RULES = [
    ("pypi", EgressRule(preset="pypi")),
    ("docker-hub", EgressRule(preset="docker-hub")),
    ("api.example.com", EgressRule(hosts=["api.example.com"])),
    ("*.example.com", EgressRule(hosts=["*.example.com"])),
    ("**.example.com", EgressRule(hosts=["**.example.com"])),
    ("*", EgressRule(hosts=["*"])),
    ("a.example+b.example", EgressRule(hosts=["a.example", "b.example"])),
    ("bücher.example", EgressRule(hosts=["bücher.example"])),
    ("example.com:8443", EgressRule(hosts=["example.com"], ports=["8443"])),
    ("example.com:80+8000-8100", EgressRule(hosts=["example.com"], ports=["80", "8000-8100"])),
    ("buildbox:80", EgressRule(hosts=["buildbox"], ports=["80"])),
    ("db.sandbox:5432", EgressRule(hosts=["db.sandbox"], ports=["5432"])),
    ("10.0.0.0/8", EgressRule(cidrs=["10.0.0.0/8"])),
    ("1.2.3.4:5432", EgressRule(cidrs=["1.2.3.4"], ports=["5432"])),
    ("[::1]:80", EgressRule(cidrs=["::1"], ports=["80"])),
    ("[fd00::/8]", EgressRule(cidrs=["fd00::/8"])),
    ("10.0.0.0/8+[fd00::/8]:53", EgressRule(cidrs=["10.0.0.0/8", "fd00::/8"], ports=["53"])),
    ("!example.com", EgressRule(action="deny", hosts=["example.com"])),
    ("?example.com:22", EgressRule(action="ask", hosts=["example.com"], ports=["22"])),
    ("db.example@127.0.0.0/8", EgressRule(hosts=["db.example"], addresses=["127.0.0.0/8"])),
    ("db.example:5432@[::1]", EgressRule(hosts=["db.example"], ports=["5432"], addresses=["::1"])),
    ("https://a.example", EgressRule(hosts=["a.example"], ports=["443"], protocols=["tls"])),
    ("http://a.example:8080", EgressRule(hosts=["a.example"], ports=["8080"], protocols=["http"])),
    ("tcp://a.example:22", EgressRule(hosts=["a.example"], ports=["22"], protocols=["tcp"])),
    ("tls://a.example", EgressRule(hosts=["a.example"], protocols=["tls"])),
    ("a.example inspect", EgressRule(hosts=["a.example"], tls="inspect")),
    ("a.example inspect ech", EgressRule(hosts=["a.example"], tls="inspect", encrypted_hello=True)),
    (
        "https://a.example/v1/**",
        EgressRule(hosts=["a.example"], ports=["443"], protocols=["tls"], paths=["/v1/**"], tls="inspect"),
    ),
    (
        "GET+HEAD https://a.example/v1/**",
        EgressRule(
            hosts=["a.example"],
            ports=["443"],
            protocols=["tls"],
            methods=["GET", "HEAD"],
            paths=["/v1/**"],
            tls="inspect",
        ),
    ),
    (
        "!DELETE https://a.example",
        EgressRule(
            action="deny", hosts=["a.example"], ports=["443"], protocols=["tls"], methods=["DELETE"], tls="inspect"
        ),
    ),
    ('{"action": "deny", "ports": ["25"]}', EgressRule(action="deny", ports=["25"])),
    ('{"hosts": ["a.example"], "note": "x, y"}', EgressRule(hosts=["a.example"], note="x, y")),
]


@pytest.mark.parametrize(("word", "rule"), RULES)
def test_words_and_rules(word, rule):
    assert parse_rule(word) == rule
    assert rule_words(rule) == word


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        (" API.Example.com ", EgressRule(hosts=["api.example.com"])),
        ("! example.com", EgressRule(action="deny", hosts=["example.com"])),
        ("GET  https://a.example", parse_rule("GET https://a.example")),
        ("tls://a.example:443", parse_rule("https://a.example")),
        (
            "https://a.example/@b+c:1",
            parse_rule(
                '{"hosts": ["a.example"], "ports": ["443"], "protocols": ["tls"],'
                ' "paths": ["/@b+c:1"], "tls": "inspect"}'
            ),
        ),
    ],
)
def test_other_ways_to_say_it(word, rule):
    assert parse_rule(word) == rule


POLICIES = [
    ("none", None),
    (" none ", None),
    ("allow", EgressPolicy(default="allow")),
    ("deny", EgressPolicy()),
    ("ask", EgressPolicy(default="ask")),
    ("pypi", EgressPolicy(rules=[EgressRule(preset="pypi")])),
    ("pypi, !a.example ,allow", EgressPolicy(default="allow", rules=[RULES[0][1], parse_rule("!a.example")])),
    ('{"ports": ["1","2"]} , pypi', EgressPolicy(rules=[EgressRule(ports=["1", "2"]), EgressRule(preset="pypi")])),
    (
        'pypi,{"note": "}, x", "hosts": ["a.example"]}',
        EgressPolicy(rules=[EgressRule(preset="pypi"), EgressRule(hosts=["a.example"], note="}, x")]),
    ),
]


@pytest.mark.parametrize(("text", "policy"), POLICIES)
def test_policies(text, policy):
    assert parse_policy(text) == policy
    assert parse_policy(policy_words(policy)) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "none,pypi",
        "pypi,none",
        "allow,deny",
        "!",
        "!pypi",
        "!allow",
        "?!a.example",
        "a..example",
        "a.example:0",
        "a.example:70000",
        "a.example:90-80",
        "a.example:http",
        "a.example/path",
        "a.example:",
        "a b.example",
        "a.example nonsense",
        "GET a.example",
        "::1",
        "10.0.0.1/8",
        "1.2.3.4.5",
        "10.0.0.0/8+a.example",
        "a.example@b.example",
        "https://",
        "https:///x",
        "https://user@a.example/x",
        "https://a.example/x?y",
        "https://a.example/a**",
        "tcp://a.example/x",
        "ftp://a.example",
        "{",
        "{}x",
        '{"hosts": 1}',
        '{"host": ["a.example"]}',
        '{"hosts": ["1.2.3.4"]}',
        '{"preset": "pypi", "ports": ["1"]}',
        "[" * 5000,
        "{" * 5000,
        '{"hosts":' * 5000,
        "a" * 70000,
        "xn--\0.example",
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_what_is_no_policy_is_refused(text):
    with pytest.raises(InvalidError) as failure:
        parse_policy(text)
    assert failure.value.details["field"]
    assert len(failure.value.message) < 1000


@settings(max_examples=500, deadline=None)
@given(some.ANY_RULE)
def test_every_rule_has_a_word(rule):
    assert parse_rule(rule_words(rule)) == rule


@settings(max_examples=200, deadline=None)
@given(st.builds(EgressPolicy, default=st.sampled_from(some.ACTIONS), rules=st.lists(some.ANY_RULE, max_size=4)))
def test_every_policy_has_words(policy):
    assert parse_policy(policy_words(policy)) == policy


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(alphabet='ab.:/*!?@+[]{}",- 1GETinspect', max_size=40)))
def test_any_text_is_a_policy_or_a_reason(text):
    try:
        policy = parse_policy(text)
    except InvalidError:
        return
    assert parse_policy(policy_words(policy)) == policy


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("github.com/owner", "'github.com/owner': a path goes with a protocol: https://github.com/owner"),
        ("!a.example/x", "'!a.example/x': a path goes with a protocol: https://a.example/x"),
        ("https://", "'https://': a rule is for hosts, or for ranges of addresses"),
        ("http://exa mple", "'http://exa mple': behind a host stands `inspect`, `ech` or nothing, and not 'mple'"),
        ("a.example:http", "'a.example:http': 'http' is neither a port nor a range of ports"),
        ("a_b!.example", "'a_b!.example' is no host"),
    ],
)
def test_errors_name_the_word(word, said):
    with pytest.raises(InvalidError) as raised:
        parse_rule(word)
    assert said in raised.value.message
