"""What the SDK hands back about the network of a sandbox.

A node that is newer than this client may say more of a policy than is read here; what is sent to a node stays strict
(`model/egress.py`)."""

from __future__ import annotations

import msgspec

from cloche.model.egress import (
    AcceptRule,
    EgressBudget,
    EgressPolicy,
    EgressRule,
    EgressState,
    Secret,
    SecretSource,
)


class RuleInfo(EgressRule, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A rule as its node told it."""


class _KnownBudget(EgressBudget, frozen=True, kw_only=True, forbid_unknown_fields=False):
    pass


class _KnownAccept(AcceptRule, frozen=True, kw_only=True, forbid_unknown_fields=False):
    pass


class _KnownSource(SecretSource, frozen=True, kw_only=True, forbid_unknown_fields=False):
    pass


class PolicyInfo(EgressPolicy, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A policy as its node told it."""

    rules: list[RuleInfo] = []  # type: ignore[assignment]
    budget: _KnownBudget = _KnownBudget()
    accept: list[_KnownAccept] = []  # type: ignore[assignment]


class SecretInfo(Secret, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A secret as its node told it: never with its value."""

    source: _KnownSource = _KnownSource()


class EgressInfo(EgressState, frozen=True, kw_only=True):
    """The network of a sandbox now. `door`: "open", "closed" (no policy) or "down" (it does not answer now)."""

    policy: PolicyInfo | None
    secrets: list[SecretInfo] = []  # type: ignore[assignment]


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What the code tried to reach and was not let to, in the sandbox's own words: a name or an address. `port` 0: only
    its name was asked for."""

    host: str
    port: int = 0
    protocol: str = ""
    count: int = 1


class SuggestionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest policy that would have been enough for what was `tried`. `words` are what
    `net=",".join(words)` takes."""

    words: list[str]
    policy: PolicyInfo | None = None
    tried: list[Tried] = []


class PresetInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Rules that have a name. `way_out`: what code could send out through it."""

    name: str
    summary: str = ""
    way_out: str = ""
    rules: list[RuleInfo] = []


class PresetInfoList(msgspec.Struct, frozen=True, kw_only=True):
    """By name."""

    presets: list[PresetInfo]


def words(policy: EgressPolicy | None) -> str:
    """A policy in one line, as `net=` takes it; notes have no words."""
    if policy is None:
        return "none"
    # most commands show no policy, and start sooner without what reads and writes words
    from cloche.model.egress_words import policy_words

    rules = [_plain(rule) for rule in policy.rules]
    return policy_words(EgressPolicy(default=policy.default, rules=rules, budget=policy.budget, accept=policy.accept))


def rule_word(rule: EgressRule) -> str:
    """One rule as a word, without its note."""
    from cloche.model.egress_words import rule_words

    return rule_words(_plain(rule))


def _plain(rule: EgressRule) -> EgressRule:
    """As somebody would have written it: what a node told is of another type, and notes have no words."""
    return EgressRule(**{**{name: getattr(rule, name) for name in EgressRule.__struct_fields__}, "note": ""})
