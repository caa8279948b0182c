"""Which field of a policy is wrong."""

from __future__ import annotations

import msgspec
import pytest

from cloche.model.egress import AcceptRule, EgressBudget, EgressPolicy, EgressRule, Secret
from cloche.model.egress_checks import check_policy, check_secrets
from cloche.model.errors import InvalidError
from cloche.model.sandbox import SandboxSpec

WRONG = [
    ({"hosts": [""]}, "hosts"),
    ({"hosts": ["a b.example"]}, "hosts"),
    ({"hosts": ["a.*.example"]}, "hosts"),
    ({"hosts": ["a*.example"]}, "hosts"),
    ({"hosts": ["***.example"]}, "hosts"),
    ({"hosts": ["*.*.example"]}, "hosts"),
    ({"hosts": ["**"]}, "hosts"),
    ({"hosts": ["1.2.3.4"]}, "hosts"),
    ({"hosts": ["*.0x7f"]}, "hosts"),
    ({"hosts": ["[::1]"]}, "hosts"),
    ({"hosts": ["a.example:80"]}, "hosts"),
    ({"hosts": ["a%2e.example"]}, "hosts"),
    ({"hosts": ["-a.example"]}, "hosts"),
    ({"hosts": ["a" * 64 + ".example"]}, "hosts"),
    ({"hosts": ["a." * 130]}, "hosts"),
    ({"hosts": ["a.example.."]}, "hosts"),
    ({"cidrs": ["10.0.0.1/8"]}, "cidrs"),
    ({"cidrs": ["a.example"]}, "cidrs"),
    ({"cidrs": ["fe80::1%eth0"]}, "cidrs"),
    ({"cidrs": ["::ffff:10.0.0.0/104"]}, "cidrs"),
    ({"addresses": ["private"]}, "addresses"),
    ({"ports": ["0"]}, "ports"),
    ({"ports": ["65536"]}, "ports"),
    ({"ports": ["20-10"]}, "ports"),
    ({"ports": ["-1"]}, "ports"),
    ({"ports": ["٣"]}, "ports"),
    ({"protocols": ["udp"]}, "protocols"),
    ({"protocols": ["tcp"], "methods": ["GET"]}, "protocols"),
    ({"protocols": ["tcp"], "tls": "inspect"}, "protocols"),
    ({"methods": ["get"]}, "methods"),
    ({"methods": ["GET /"]}, "methods"),
    ({"paths": ["a"]}, "paths"),
    ({"paths": ["/a?b"]}, "paths"),
    ({"paths": ["/a#b"]}, "paths"),
    ({"paths": ["/a**b"]}, "paths"),
    ({"paths": ["/a\nb"]}, "paths"),
    ({"paths": ["/" + "a" * 3000]}, "paths"),
    ({"action": "permit"}, "action"),
    ({"tls": "strip"}, "tls"),
    ({"note": "\x1b[2J"}, "note"),
    ({"note": "a" * 300}, "note"),
    ({"preset": "Py.Pi"}, "preset"),
    ({"preset": "pypi", "action": "deny"}, "preset"),
    ({"preset": "pypi", "hosts": ["a.example"]}, "preset"),
]


@pytest.mark.parametrize(("fields", "wrong"), WRONG, ids=str)
def test_the_field_of_a_rule_is_named(fields, wrong):
    policy = EgressPolicy(rules=[EgressRule(), EgressRule(**fields)])
    with pytest.raises(InvalidError) as failure:
        check_policy(policy)
    assert failure.value.details["field"] == f"egress.rules[1].{wrong}"


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (EgressPolicy(default="maybe"), "egress.default"),
        (EgressPolicy(rules=[EgressRule()] * 1001), "egress.rules"),
        (EgressPolicy(rules=[EgressRule(hosts=["a.example"] * 1001)]), "egress.rules"),
        (EgressPolicy(rules=[EgressRule(hosts=["a" * 60 + f".b{i}" * 20]) for i in range(999)]), "egress"),
        (EgressPolicy(budget=EgressBudget(bytes_out=-1)), "egress.budget.bytes_out"),
        (EgressPolicy(accept=[AcceptRule(sandboxes=["a b"])]), "egress.accept[0].sandboxes"),
        (EgressPolicy(accept=[AcceptRule(ports=["x"])]), "egress.accept[0].ports"),
    ],
    ids=["default", "rules", "patterns", "size", "budget", "sandboxes", "ports"],
)
def test_the_field_of_a_policy_is_named(policy, field):
    with pytest.raises(InvalidError) as failure:
        check_policy(policy)
    assert failure.value.details["field"] == field


def test_a_spec_checks_what_it_may_reach():
    with pytest.raises(InvalidError, match=r"egress\.rules\[0\]\.hosts"):
        SandboxSpec(egress=EgressPolicy(rules=[EgressRule(hosts=["1.2.3.4"])])).check()
    with pytest.raises(InvalidError, match=r"secrets\[0\]\.hosts"):
        SandboxSpec(secrets=[Secret(name="A", hosts=[])]).check()
    SandboxSpec(
        egress=EgressPolicy(
            rules=[EgressRule(hosts=["*.bücher.example"], note="für alle"), EgressRule(preset="pypi", note="index")],
            budget=EgressBudget(bytes_out=0, connections=4),
            accept=[AcceptRule(sandboxes=["*", "web.1"], ports=["80", "8000-8100"])],
        ),
        secrets=[Secret(name="A", hosts=["api.example.com"])],
    ).check()


def test_the_largest_policy_fits_into_a_message():
    policy = EgressPolicy(rules=[EgressRule(hosts=[f"host{number}.example.com"]) for number in range(1000)])
    check_policy(policy)
    assert len(msgspec.json.encode(policy)) < 96 << 10


def test_no_secret_twice_and_not_too_many():
    secret = Secret(name="A", hosts=["a.example"])
    with pytest.raises(InvalidError, match=r"secrets\[1\]\.name"):
        check_secrets([secret, secret])
    with pytest.raises(InvalidError, match="at most 64"):
        check_secrets([msgspec.structs.replace(secret, name=f"A{number}") for number in range(65)])
