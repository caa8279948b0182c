"""Policies, secrets and attempts that hit each other often: from few names, addresses, ports and paths."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from cloche.egress.deciding.policy import Attempt
from cloche.egress.deciding.presets import Preset
from cloche.model.egress import EgressPolicy, EgressRule, Secret

NAMES = ["a.example", "b.a.example", "c.b.a.example", "example", "db.sandbox", "x.local", "localhost", "api.test"]
PATTERNS = [*NAMES, "*.example", "**.example", "*.a.example", "**.a.example", "*", "A.Example", "**.sandbox"]
ADDRESSES = ["1.1.1.1", "203.0.113.9", "10.0.0.1", "127.0.0.1", "169.254.169.254", "2606:4700::1111", "fd00::1", "::1"]
RANGES = ["1.1.1.0/24", "1.1.1.1", "10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8", "169.254.169.254/32", "203.0.113.9"]
PORTS = ["80", "443", "22", "1-1024", "8000-9000"]
PATHS = ["/**", "/a", "/a/*", "/a/**", "/b/**", "/**/c"]
RAW_PATHS = ["/", "/a", "/a/b", "/a/b/c", "/b/c?x=/a", "/a/../b", "/a%2fb", "//a", "/a/%62", "/a;x/b", "*"]
METHODS = ["GET", "POST", "DELETE"]
PROTOCOLS = ["tls", "http", "tcp"]
ACTIONS = ["allow", "deny", "ask"]
OWN = frozenset(["203.0.113.9"])


def some(items, size=2):
    return st.lists(st.sampled_from(items), max_size=size, unique=True)


def rules(actions=tuple(ACTIONS)):
    return st.builds(
        EgressRule,
        action=st.sampled_from(actions),
        hosts=some(PATTERNS),
        cidrs=st.one_of(st.just([]), st.just([]), some(RANGES)),
        ports=some(PORTS),
        protocols=st.one_of(st.just([]), some(["tls", "http"]), some(PROTOCOLS, 1)),
        methods=st.one_of(st.just([]), some(METHODS)),
        paths=st.one_of(st.just([]), some(PATHS)),
        tls=st.sampled_from(["pass", "inspect"]),
        addresses=st.one_of(st.just([]), some(RANGES)),
        encrypted_hello=st.booleans(),
        note=st.sampled_from(["", "a note, with a comma"]),
    ).filter(lambda rule: not ((rule.methods or rule.paths or rule.tls == "inspect") and rule.protocols == ["tcp"]))


PRESET_RULES = st.sampled_from(["one", "two"]).map(lambda name: EgressRule(preset=name))
ANY_RULE = st.one_of(rules(), rules(), rules(), PRESET_RULES)
POLICIES = st.builds(EgressPolicy, default=st.sampled_from(ACTIONS), rules=st.lists(ANY_RULE, max_size=6))
SECRETS = st.lists(
    st.builds(
        Secret, name=st.just("TOKEN"), hosts=st.lists(st.sampled_from(["a.example", "**.a.example"]), min_size=1)
    ),
    max_size=1,
)


def presets(name: str) -> Preset:
    hosts = {"one": ["a.example", "**.b.example"], "two": ["*.a.example"]}[name]
    return Preset(name=name, summary="", way_out="", rules=[EgressRule(hosts=hosts), EgressRule(ports=["22"])])


def unknown(items):
    return st.one_of(st.none(), st.sampled_from(items))


_NAMED = st.builds(
    Attempt,
    host=st.sampled_from(NAMES),
    is_address=st.just(False),
    port=st.sampled_from([80, 443, 22, 8080]),
    address=unknown(ADDRESSES),
    protocol=unknown(PROTOCOLS),
    method=unknown([*METHODS, "get"]),
    path=unknown(RAW_PATHS),
)
_LITERAL = st.builds(
    Attempt,
    host=st.sampled_from(ADDRESSES),
    is_address=st.just(True),
    port=st.sampled_from([80, 443, 22, 8080]),
    protocol=unknown(PROTOCOLS),
    method=unknown(METHODS),
    path=unknown(RAW_PATHS),
)
#: a request is known only of what carries requests
ATTEMPTS = st.one_of(_NAMED, _LITERAL).map(
    lambda item: replace(item, method=None, path=None) if item.protocol in (None, "tcp") else item
)
