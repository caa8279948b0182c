"""Policies in words, as people type them: `--net pypi,api.example.com:8443,!*.tracker.example`.

none                      closed; alone        allow, deny, ask   what happens to the rest
pypi                      a preset             api.example.com    a host: TLS and HTTP on ports 80 and 443
*.example.com             one label below it   **.example.com     any number of labels below it; * any name
example.com:22            any protocol there   example.com:80+8000-8100    several ports
10.0.0.0/8  1.2.3.4:5432  addresses            [::1]:80  [fd00::/8]
db.example.com@10.0.0.0/8 addresses that are forbidden otherwise, which this name may have
https://api.example.com/v1/**     only these paths     GET+HEAD https://api.example.com/**   only these methods
tls://, http://, tcp://   only that protocol   api.example.com inspect     the door looks inside the TLS
!word  denies             ?word  asks          {"hosts": […]}     anything else: a rule as JSON
"""

from __future__ import annotations

from cloche.model.egress import EgressPolicy, EgressRule


def parse_policy(text: str) -> EgressPolicy | None:
    """None: closed. Raises InvalidError naming the word that is wrong."""
    raise NotImplementedError


def policy_words(policy: EgressPolicy | None) -> str:
    """What `parse_policy` reads. Budgets and `accept` have no words."""
    raise NotImplementedError


def parse_rule(word: str) -> EgressRule:
    """Raises InvalidError."""
    raise NotImplementedError


def rule_words(rule: EgressRule) -> str:
    """The word that `parse_rule` reads as this rule."""
    raise NotImplementedError
