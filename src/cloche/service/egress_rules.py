"""What becomes of a policy when one rule comes or goes. Pure."""

from __future__ import annotations

from typing import get_args

import msgspec

from cloche.model.egress import MAX_RULES, Ask, EgressPolicy, EgressRule, Protocol
from cloche.model.errors import LimitHitError, NotFoundError

_PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)


def with_rule(policy: EgressPolicy | None, rule: EgressRule, position: int = 0) -> EgressPolicy | None:
    """The rule stands at `position`, and nowhere else; what says another action of the very same goes. One that denies
    what is closed changes nothing. Raises LimitHitError."""
    if policy is None:
        return None if rule.action == "deny" else EgressPolicy(rules=[rule])
    others = [known for known in policy.rules if _meaning(known) != _meaning(rule)]
    if len(others) >= MAX_RULES:
        raise LimitHitError(f"a policy has at most {MAX_RULES} rules", limit="egress.rules")
    at = min(position, len(others))
    return msgspec.structs.replace(policy, rules=[*others[:at], rule, *others[at:]])


def without_rule(policy: EgressPolicy | None, rule: EgressRule) -> EgressPolicy:
    """Raises NotFoundError when it is not there."""
    kept = [known for known in policy.rules if _same(known) != _same(rule)] if policy else []
    if policy is None or len(kept) == len(policy.rules):
        raise NotFoundError("the policy has no such rule", remedy="cloche policy show")
    return msgspec.structs.replace(policy, rules=kept)


def _same(rule: EgressRule) -> EgressRule:
    """Without what decides nothing."""
    return msgspec.structs.replace(rule, note="")


def _meaning(rule: EgressRule) -> EgressRule:
    """What it matches, whatever it then does with it."""
    return msgspec.structs.replace(rule, note="", action="allow", tls="pass", encrypted_hello=False, addresses=[])


def allowing(ask: Ask) -> EgressRule:
    """The rule that an answer "always" stands for: the very host, port, protocol, and the method where it is seen."""
    ports = [str(ask.port)] if ask.port else []
    protocols = [spoken for spoken in _PROTOCOLS if spoken == ask.protocol]
    methods = [ask.method] if ask.method else []
    if _is_address(ask.host):
        return EgressRule(cidrs=[ask.host], ports=ports, protocols=protocols, methods=methods)
    return EgressRule(hosts=[ask.host], ports=ports, protocols=protocols, methods=methods)


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
