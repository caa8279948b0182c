"""Says which field of a policy or of a secret is wrong, before anything is made of it. Syntax only: whether a preset
exists, and what IDNA makes of a name, the node knows (`egress/policy.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from cloche.model.egress import EgressPolicy, EgressRule, Secret


def check_policy(policy: EgressPolicy) -> None:
    """Raises InvalidError; `field` is such as `egress.rules[3].hosts`."""
    raise NotImplementedError


def check_rule(rule: EgressRule, field: str = "rule") -> None:
    """Raises InvalidError; `field` is what the rule is called in its message."""
    raise NotImplementedError


def check_secrets(secrets: Sequence[Secret]) -> None:
    """Raises InvalidError; `field` is such as `secrets[0].hosts`."""
    raise NotImplementedError
