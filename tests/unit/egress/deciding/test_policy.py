"""What a policy lets through, as tables: the first rule that matches, and what has to be known for it."""

from __future__ import annotations

import pytest

from cloche.egress.deciding.names import read_host
from cloche.egress.deciding.policy import Attempt, Compiled, Undecided, compile_policy, remedy_words
from cloche.egress.deciding.presets import Preset
from cloche.model.egress import EgressPolicy, EgressRule, Secret
from cloche.model.egress_words import parse_policy, parse_rule
from cloche.model.errors import InvalidError

TEST_PRESET = Preset(
    name="fruit",
    summary="",
    way_out="",
    rules=[EgressRule(hosts=["apple.example", "*.pear.example"]), EgressRule(hosts=["git.example"], ports=["22"])],
)


def presets(name: str) -> Preset:
    if name != "fruit":
        raise InvalidError(f"there is no preset {name!r}", field="preset", remedy="fruit")
    return TEST_PRESET


def compiled(words: str, *secrets: Secret, own: set[str] | None = None) -> Compiled:
    policy = parse_policy(words)
    assert policy is not None
    return compile_policy(policy, secrets, presets, own if own is not None else set())


def attempt(target: str, **known: str) -> Attempt:
    """`example.com:443`, `tls example.com`, `GET https://example.com/path`."""
    method, _, rest = target.rpartition(" ")
    scheme, found, rest = rest.rpartition("://")
    rest, slash, path = rest.partition("/")
    host, colon, port = (
        (rest, "", "") if rest.endswith("]") else rest.rpartition(":") if ":" in rest else (rest, "", "")
    )
    read = read_host(host)
    protocol = {"https": "tls", "http": "http", "tls": "tls", "tcp": "tcp", "": None}[scheme if found else ""]
    usual = {"http": 80}.get(scheme, 443)
    return Attempt(
        host=read.text,
        is_address=read.is_address,
        port=int(port) if colon else usual,
        protocol=protocol,
        method=method or None,
        path=slash + path if method else None,
        **known,
    )


def verdict(policy: Compiled, target: str, **known: str) -> str:
    decision = policy.decide(attempt(target, **known))
    if isinstance(decision, Undecided):
        return "needs " + "+".join(sorted(decision.needs))
    return decision.action


CASES = [
    # names
    ("example.com", "tls://example.com", "allow"),
    ("example.com", "http://EXAMPLE.com.", "allow"),
    ("example.com", "example.com", "needs protocol"),
    ("example.com", "tcp://example.com", "deny"),
    ("example.com", "example.com:8443", "deny"),
    ("example.com", "tls://www.example.com", "deny"),
    ("example.com", "tls://notexample.com", "deny"),
    ("example.com", "tls://example.com.evil.example", "deny"),
    ("*.example.com", "tls://www.example.com", "allow"),
    ("*.example.com", "tls://example.com", "deny"),
    ("*.example.com", "tls://a.b.example.com", "deny"),
    ("**.example.com", "tls://a.b.example.com", "allow"),
    ("**.example.com", "tls://b.example.com", "allow"),
    ("**.example.com", "tls://example.com", "deny"),
    ("*", "tls://anything.example", "allow"),
    ("*", "anything.example:22", "deny"),
    ("bücher.example", "tls://xn--bcher-kva.example", "allow"),
    # ports and protocols
    ("example.com:22", "example.com:22", "allow"),
    ("example.com:22", "tls://example.com", "deny"),
    ("example.com:8000-8010", "example.com:8005", "allow"),
    ("tcp://example.com:22", "example.com:22", "needs protocol"),
    ("tcp://example.com:22", "tls://example.com:22", "deny"),
    ("https://example.com", "http://example.com", "deny"),
    # the first rule that matches
    ("!www.example.com,**.example.com", "tls://www.example.com", "deny"),
    ("**.example.com,!www.example.com", "tls://www.example.com", "allow"),
    ("!example.com,allow", "example.com:22", "deny"),
    ("!example.com,allow", "other.example:22", "allow"),
    ("?example.com,allow", "example.com:22", "ask"),
    ("ask", "example.com:22", "ask"),
    ("!example.com,ask", "example.com:22", "deny"),
    # addresses: a name is not looked up for an answer that is no anyway
    ("1.1.1.1", "1.1.1.1:853", "allow"),
    ("1.1.1.0/24:443", "1.1.1.9:443", "allow"),
    ("1.1.1.0/24:443", "1.1.1.9:444", "deny"),
    ("*", "tls://1.1.1.1", "deny"),
    ("allow", "1.1.1.1:53", "allow"),
    ("allow", "10.0.0.1:53", "deny"),
    ("allow", "[::1]:80", "deny"),
    ("allow", "2130706433:80", "deny"),
    ("allow", "169.254.169.254:80", "deny"),
    ("10.0.0.0/8", "10.0.0.1:53", "allow"),
    ("0.0.0.0/0", "10.0.0.1:53", "deny"),
    ("0.0.0.0/0", "1.1.1.1:53", "allow"),
    ("[::]/0", "1.1.1.1:53", "error"),
    ("10.0.0.0/8", "example.com:5432", "needs address"),
    ("!1.1.1.0/24", "tls://example.com", "deny"),
    ("!1.1.1.0/24,allow", "tls://example.com", "needs address"),
    ("!1.1.1.0/24,fruit", "tls://example.com", "deny"),
    ("!1.1.1.0/24,fruit", "tls://apple.example", "needs address"),
    # presets
    ("fruit", "tls://apple.example", "allow"),
    ("fruit", "tls://a.pear.example", "allow"),
    ("fruit", "git.example:22", "allow"),
    ("fruit", "tls://git.example", "deny"),
    ("!apple.example,fruit", "tls://apple.example", "deny"),
    # requests
    ("GET https://example.com/v1/**", "tls://example.com", "needs request"),
    ("GET https://example.com/v1/**", "example.com", "needs protocol+request"),
    ("GET https://example.com/v1/**", "tcp://example.com", "deny"),
    ("GET https://example.com/v1/**", "http://example.com", "deny"),
    ("GET https://example.com/v1/**", "GET https://example.com/v1/a?b=c", "allow"),
    ("GET https://example.com/v1/**", "POST https://example.com/v1/a", "deny"),
    ("GET https://example.com/v1/**", "get https://example.com/v1/a", "deny"),
    ("GET https://example.com/v1/**", "GET https://example.com/v2", "deny"),
    ("GET https://example.com/v1/**", "GET https://example.com/v1/../v2", "deny"),
    ("GET https://example.com/v1/**", "GET https://example.com/v1/%2e%2e/v2", "deny"),
    ("GET https://example.com/v1/**", "GET https://example.com//v1/a", "deny"),
    ("GET https://example.com/**", "GET https://example.com/a/../b", "allow"),
    ("https://example.com/@s%2fname", "GET https://example.com/@s%2fname", "allow"),
    ("!https://example.com/admin/**,example.com", "tls://example.com", "needs request"),
    ("!https://example.com/admin/**,example.com", "GET https://example.com/admin/x", "deny"),
    ("!https://example.com/admin/**,example.com", "GET https://example.com/x/../admin/x", "deny"),
    ("!https://example.com/admin/**,example.com", "GET https://example.com/x%2f..%2fadmin/x", "deny"),
    ("!https://example.com/admin/**,example.com", "GET https://example.com/x", "allow"),
    ("!https://example.com/admin/**,example.com", "GET https://example.com/Admin/x", "deny"),
    ("!https://example.com/admin/**,example.com", "GET https://example.com/admin", "deny"),
    ("!https://example.com/admin/**,example.com", "GET https://example.com/administrator", "allow"),
    ("!https://example.com/Admin,example.com", "GET https://example.com/%61dmin/", "deny"),
    ("!https://example.com/Admin,example.com", "GET https://example.com/admin/x", "allow"),
    ("https://example.com/admin", "GET https://example.com/ADMIN", "deny"),
    ("https://example.com/admin", "GET https://example.com/admin/", "deny"),
    ("!DELETE https://example.com,example.com", "delete https://example.com/x", "deny"),
    ("!DELETE https://example.com,example.com", "GET https://example.com/x", "allow"),
    # names that are not of the public network
    ("allow", "tls://localhost", "deny"),
    ("localhost:80", "localhost:80", "deny"),
    ("*.localhost:80", "app.localhost:80", "deny"),
    ("allow", "tls://printer.local", "deny"),
    ("allow", "tls://metadata.google.internal", "deny"),
    ("allow", "tls://instance-data", "deny"),
    ("allow", "tls://metadata.tencentyun.com", "deny"),
    ("allow", "tls://db.sandbox", "deny"),
    ("allow", "tls://hidden.onion", "deny"),
    ("allow", "tls://4.3.2.1.in-addr.arpa", "deny"),
    ("*", "tls://printer.local", "deny"),
    ("ask", "tls://printer.local", "ask"),
    ("printer.local", "tls://printer.local", "allow"),
    ("10.0.0.0/8", "db.internal:5432", "needs address"),
    ("10.0.0.0/8", "db.sandbox:5432", "deny"),
    ("db.sandbox:5432", "db.sandbox:5432", "allow"),
    ("**.sandbox", "tls://db.sandbox", "allow"),
    ("!*,db.sandbox", "tls://db.sandbox", "deny"),
]


@pytest.mark.parametrize(("words", "target", "expected"), CASES)
def test_table(words, target, expected):
    if expected == "error":
        with pytest.raises(InvalidError):
            compiled(words)
        return
    assert verdict(compiled(words), target) == expected


def test_a_name_that_turns_out_to_be_this_network_is_refused_unless_its_rule_opens_it():
    policy = compiled("db.example.com:5432@10.0.0.0/8,web.example.com,allow")
    assert verdict(policy, "db.example.com:5432", address="10.1.1.1") == "allow"
    assert verdict(policy, "db.example.com:5432", address="127.0.0.1") == "deny"
    assert verdict(policy, "tls://web.example.com", address="10.1.1.1") == "deny"
    assert verdict(policy, "tls://web.example.com", address="1.1.1.1") == "allow"
    assert verdict(policy, "other.example:5432", address="10.1.1.1") == "deny"
    decision = policy.decide(attempt("tls://web.example.com", address="10.1.1.1"))
    assert decision.rule == "private address"


def test_the_addresses_of_a_decision_are_judged_one_by_one():
    policy = compiled("db.example.com:5432@10.0.0.0/8", own={"203.0.113.9"})
    for address in ("10.0.0.1", "203.0.113.1"):
        assert policy.decide(attempt("db.example.com:5432", address=address)).action == "allow"
    for address, rule in (("192.168.0.1", "private address"), ("203.0.113.9", "address of this machine")):
        decision = policy.decide(attempt("db.example.com:5432", address=address))
        assert (decision.action, decision.rule) == ("deny", rule)


def test_an_address_of_this_machine_is_reached_only_when_it_is_named():
    assert verdict(compiled("allow", own={"203.0.113.9"}), "203.0.113.9:80") == "deny"
    assert verdict(compiled("203.0.113.0/24", own={"203.0.113.9"}), "203.0.113.9:80") == "deny"
    assert verdict(compiled("203.0.113.9", own={"203.0.113.9"}), "203.0.113.9:80") == "allow"


def test_a_rule_with_hosts_and_ranges_wants_both():
    rule = EgressRule(hosts=["db.example.com"], cidrs=["10.0.0.0/8"], ports=["5432"])
    policy = compile_policy(EgressPolicy(rules=[rule]))
    assert verdict(policy, "db.example.com:5432") == "needs address"
    assert verdict(policy, "db.example.com:5432", address="10.0.0.1") == "allow"
    assert verdict(policy, "db.example.com:5432", address="11.0.0.1") == "deny"
    assert verdict(policy, "other.example.com:5432", address="10.0.0.1") == "deny"
    assert verdict(policy, "10.0.0.1:5432") == "deny"


def test_a_rule_that_says_nothing_matches_all_but_what_has_to_be_named():
    policy = compile_policy(EgressPolicy(rules=[EgressRule()]))
    assert verdict(policy, "example.com:22") == "allow"
    assert verdict(policy, "1.1.1.1:22") == "allow"
    assert verdict(policy, "10.0.0.1:22") == "deny"
    assert verdict(policy, "printer.local:22") == "deny"
    assert (
        verdict(compile_policy(EgressPolicy(default="allow", rules=[EgressRule(action="deny")])), "a.example") == "deny"
    )


TOKEN = Secret(name="TOKEN", hosts=["api.example.com"])


def test_hosts_of_secrets_are_allowed_and_looked_into():
    policy = compiled("deny", TOKEN)
    decision = policy.decide(attempt("tls://api.example.com"))
    assert (decision.action, decision.tls, decision.rule, decision.secret_host) == (
        "allow",
        "inspect",
        "secret TOKEN",
        True,
    )
    assert verdict(policy, "http://api.example.com") == "deny"
    assert verdict(policy, "tls://api.example.com:8443") == "deny"
    assert policy.decide(attempt("api.example.com")) == Undecided(needs=frozenset({"protocol"}), tls="inspect")


def test_a_secret_does_not_open_the_requests_that_a_rule_leaves_out():
    policy = compiled("GET https://API.example.com/v1/**", TOKEN)
    assert verdict(policy, "GET https://api.example.com/v1/me") == "allow"
    assert verdict(policy, "GET https://api.example.com/v2") == "deny"
    assert verdict(policy, "DELETE https://api.example.com/v1/me") == "deny"
    assert policy.decide(attempt("GET https://api.example.com/v1/me")).secret_host
    assert verdict(compiled("!GET https://api.example.com/v1/**", TOKEN), "GET https://api.example.com/v2") == "allow"


def test_a_rule_that_denies_wins_over_a_secret():
    assert verdict(compiled("!api.example.com", TOKEN), "tls://api.example.com") == "deny"


@pytest.mark.parametrize("words", ["api.example.com", "allow", "**.example.com:1-65535", "*"])
def test_a_host_of_a_secret_is_looked_into_whatever_allows_it(words):
    assert compiled(words, TOKEN).decide(attempt("tls://api.example.com")).tls == "inspect"
    assert compiled(words, TOKEN).decide(attempt("tls://api.example.com:443", address="1.1.1.1")).tls == "inspect"


def test_requests_imply_inspection():
    assert compiled("GET https://a.example").decide(attempt("tls://a.example")).tls == "inspect"
    assert compiled("a.example inspect").decide(attempt("tls://a.example")).tls == "inspect"
    assert compiled("a.example").decide(attempt("tls://a.example")).tls == "pass"
    assert compiled("a.example ech").decide(attempt("tls://a.example")).encrypted_hello


RULES = [
    ("a.example,!*.b.example", "tls://x.b.example", "rule 2 (deny *.b.example)"),
    ("a.example,fruit", "tls://apple.example", "preset fruit"),
    ("a.example:443", "tls://a.example", "rule 1 (allow a.example:443)"),
    ("a.example", "tls://b.example", "default"),
    ("allow", "192.168.0.1:80", "private address"),
    ("allow", "tls://localhost", "name of this machine"),
    ("allow", "tls://router.local", "local name"),
    ('{"ports": ["25"], "action": "deny"},allow', "a.example:25", 'rule 1 (deny {"action": "deny", "ports": ["25"]})'),
]


@pytest.mark.parametrize(("words", "target", "rule"), RULES)
def test_decisions_name_their_rule(words, target, rule):
    assert compiled(words).decide(attempt(target)).rule == rule


def test_a_long_rule_has_a_short_name():
    hosts = [f"host-number-{number}.example" for number in range(100)]
    policy = compile_policy(EgressPolicy(rules=[EgressRule(hosts=hosts)]))
    assert len(policy.decide(attempt("tls://host-number-3.example")).rule) < 200


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        ("example.com", "example.com", True),
        ("example.com:22", "example.com", True),
        ("?example.com", "example.com", True),
        ("example.com", "other.example", False),
        ("!example.com,allow", "example.com", False),
        ("!example.com:25,allow", "example.com", True),
        ("allow", "example.com", True),
        ("allow", "printer.local", False),
        ("ask", "printer.local", True),
        ("allow", "localhost", False),
        ("deny", "example.com", False),
        ("fruit", "x.pear.example", True),
        ("10.0.0.0/8", "db.internal", True),
        ("GET https://a.example/x", "a.example", True),
        ("db.sandbox:5432", "db.sandbox", True),
        ("*", "db.sandbox", False),
    ],
)
def test_names_are_answered_when_something_of_them_may_be_reached(words, name, expected):
    assert compiled(words).may_resolve(name) is expected


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        ("example.com", "example.com", True),
        ("example.com:22", "example.com", True),
        ("allow", "example.com", True),
        ("*", "example.com", True),
        ("ask", "example.com", False),
        ("?example.com,allow", "example.com", False),
        ("?example.com:22,allow", "example.com", True),
        ("10.0.0.0/8", "example.com", False),
        ("10.0.0.0/8,example.com", "example.com", True),
        ("!1.1.1.0/24,allow", "example.com", True),
        ("!1.1.1.0/24,fruit", "example.com", False),
        ("allow", "printer.local", False),
        ("allow", "localhost", False),
    ],
)
def test_no_name_server_hears_a_name_that_nobody_allowed(words, name, expected):
    assert compiled(words).may_look_up(name) is expected


REMEDIES = [
    ("tls://a.example", "a.example"),
    ("http://a.example", "a.example"),
    ("a.example", "a.example"),
    ("tcp://a.example", "a.example:443"),
    ("a.example:22", "a.example:22"),
    ("tls://a.example:8443", "a.example:8443"),
    ("tls://buildbox", "buildbox:443"),
    ("1.1.1.1:53", "1.1.1.1:53"),
    ("[2606:4700::1111]:53", "[2606:4700::1111]:53"),
    ("10.0.0.1:80", "10.0.0.1:80"),
    ("db.sandbox:5432", "db.sandbox:5432"),
    ("GET https://a.example/x", "a.example"),
    ("tls://localhost", None),
    ("169.254.169.254:80", None),
]


@pytest.mark.parametrize(("target", "word"), REMEDIES)
def test_remedies_allow_what_was_refused(target, word):
    refused = attempt(target)
    assert remedy_words(refused) == word
    if word is not None:
        decision = compile_policy(EgressPolicy(rules=[parse_rule(word), EgressRule(action="deny")])).decide(refused)
        assert isinstance(decision, Undecided) or decision.action == "allow"


def test_the_remedy_for_a_name_of_this_network_opens_its_address():
    refused = attempt("a.example:5432", address="10.0.0.1")
    assert remedy_words(refused) == "a.example:5432@10.0.0.1"
    assert verdict(compiled("a.example:5432@10.0.0.1"), "a.example:5432", address="10.0.0.1") == "allow"
    assert remedy_words(attempt("tls://a.example", address="fd00::1")) == "a.example@[fd00::1]"
    assert remedy_words(attempt("tls://a.example", address="169.254.169.254")) is None


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (EgressPolicy(rules=[EgressRule(), EgressRule(preset="vegetables")]), "egress.rules[1].preset"),
        (EgressPolicy(rules=[EgressRule(hosts=["a\u200db.example"])]), "egress.rules[0].hosts"),
    ],
)
def test_what_only_the_node_knows_is_refused_by_field(policy, field):
    with pytest.raises(InvalidError) as failure:
        compile_policy(policy, presets=presets)
    assert failure.value.details["field"] == field
    assert failure.value.remedy == ("fruit" if "preset" in field else None)


def test_hosts_of_secrets_are_read_too():
    with pytest.raises(InvalidError, match=r"secrets\[0\]\.hosts"):
        compile_policy(EgressPolicy(), [Secret(name="A", hosts=["a\u200db.example"])])


def test_many_rules_keep_their_order():
    words = [f"h{number}.example" for number in range(300)]
    policy = compiled(",".join(["!h7.example", *words, "!**.example"]))
    assert policy.decide(attempt("tls://h7.example")).rule == "rule 1 (deny h7.example)"
    assert policy.decide(attempt("tls://h8.example")).rule == "rule 10 (allow h8.example)"
    assert policy.decide(attempt("h8.example:22")).rule == "rule 302 (deny **.example)"
