"""What becomes of a policy when one rule comes or goes. Pure."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from cloche.egress.deciding.names import is_address
from cloche.egress.deciding.policy import Attempt, Decided, compile_policy
from cloche.model.egress import MAX_RULES, Ask, EgressPolicy, EgressRule, Protocol
from cloche.model.errors import LimitHitError, NotFoundError
from cloche.model.sandbox import SandboxSpec

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


def allowing(ask: Ask, decided: Decided | None = None) -> EgressRule:
    """The rule that an answer "always" stands for: the very host, port, protocol, and the method where it is seen.
    `decided`: what the rule that asks has given to it besides."""
    more: dict[str, Any] = {} if decided is None else {"addresses": list(decided.opened), "tls": decided.tls}
    ports = [str(ask.port)] if ask.port else []
    protocols = [spoken for spoken in _PROTOCOLS if spoken == ask.protocol]
    methods = [ask.method] if ask.method else []
    if is_address(ask.host):
        return EgressRule(cidrs=[ask.host], ports=ports, protocols=protocols, methods=methods, **more)
    return EgressRule(hosts=[ask.host], ports=ports, protocols=protocols, methods=methods, **more)


def asking(spec: SandboxSpec, ask: Ask) -> Decided | None:
    """What its policy says of a connection that waits for an answer. None: no such thing any more."""
    if spec.egress is None:
        return None
    spoken = next((spoken for spoken in _PROTOCOLS if spoken == ask.protocol), None)
    attempt = Attempt(host=ask.host, is_address=is_address(ask.host), port=ask.port, protocol=spoken,
                      method=ask.method or None, path=ask.path or None)  # fmt: skip
    decision = compile_policy(spec.egress, spec.secrets).decide(attempt)
    return decision if isinstance(decision, Decided) and decision.action == "ask" else None
