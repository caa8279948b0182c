"""The part of a spec that is about the network, before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cloche.egress import messages
from cloche.egress.deciding import presets
from cloche.egress.deciding.policy import compile_policy
from cloche.egress.messages import GivenSecret, SetPolicy
from cloche.model.egress import EgressPolicy, EgressRule
from cloche.model.errors import InvalidError
from cloche.model.sandbox import SandboxSpec
from cloche.service.secret_values import SecretValues

#: what else an Attach says: name, path, and counters that grow
ROOM_BYTES = 2048


def asked_for(spec: SandboxSpec) -> SandboxSpec:
    """As a client may say it: placeholders are the node's to make."""
    if not any(secret.placeholder for secret in spec.secrets):
        return spec
    secrets = [msgspec.structs.replace(secret, placeholder=None) for secret in spec.secrets]
    return msgspec.structs.replace(spec, secrets=secrets)


def with_door(spec: SandboxSpec, *, closed: bool) -> SandboxSpec:
    """One with secrets and no policy may reach the hosts of its secrets, unless it was asked for to be `closed`."""
    if spec.secrets and spec.egress is None and not closed:
        return msgspec.structs.replace(spec, egress=EgressPolicy())
    return spec


def taken(values: SecretValues, spec: SandboxSpec, given: Mapping[str, str], *, complete: bool) -> SandboxSpec:
    """With placeholders, and the values that were given kept until the sandbox has an id."""
    if not spec.secrets and not given:
        return spec
    return msgspec.structs.replace(spec, secrets=values.take(spec.secrets, given, complete=complete))


def inspects(spec: SandboxSpec) -> bool:
    """Whether the door may look inside some TLS, for which the sandbox has to trust its authority."""
    rules = spec.egress.rules if spec.egress is not None else []
    within = [inner for rule in rules if rule.preset for inner in presets.load(rule.preset).rules]
    return bool(spec.secrets) or any(_looks_inside(rule) for rule in (*rules, *within))


def _looks_inside(rule: EgressRule) -> bool:
    return rule.tls == "inspect" or bool(rule.methods or rule.paths)


def require_usable(spec: SandboxSpec) -> None:
    """Raise InvalidError naming the field, for what the door could not carry out."""
    if spec.egress is not None:
        compile_policy(spec.egress, spec.secrets)


def require_small(sandbox_id: str, policy: EgressPolicy | None, secrets: list[GivenSecret]) -> None:
    """Raise InvalidError for what is too large to be told to the door in one message, now or at any later time."""
    try:
        size = len(messages.encode(SetPolicy(id=0, sandbox_id=sandbox_id, policy=policy, secrets=secrets)))
    except ValueError:
        size = messages.MAX_MESSAGE_BYTES
    most = messages.MAX_MESSAGE_BYTES - ROOM_BYTES
    if size > most:
        raise InvalidError(f"policy and secrets are too large together: at most {most} bytes", field="egress")
