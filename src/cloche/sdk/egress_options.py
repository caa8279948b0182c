"""What a caller may say of the network of a sandbox, and the values that it becomes. No I/O but the look at the
environment, which is where most secrets come from. What reads words and checks policies is imported where there are
any: most sandboxes have none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from cloche.model.egress import EgressPolicy, EgressRule, Secret, SecretSource
from cloche.model.errors import InvalidError

#: words, a policy, or None: not said, which is closed where nothing else says more
Net = str | EgressPolicy | None
#: words that say where the value is; a Secret that its node reads; either of them with the value itself
SecretGiven = str | Secret | tuple[str | Secret, str]


class GivenSecrets(NamedTuple):
    """`values`: name → value of those that the client gives. They travel with one request and are never stored."""

    secrets: list[Secret]
    values: dict[str, str]


def policy(net: Net) -> EgressPolicy | None:
    """None: closed. Raises InvalidError naming the word or the field that is wrong."""
    if net is None:
        return None
    from cloche.model.egress_checks import check_policy
    from cloche.model.egress_words import parse_policy

    if isinstance(net, str):
        return parse_policy(net)
    plain = msgspec.convert(msgspec.to_builtins(net), EgressPolicy)
    check_policy(plain)
    return plain


def rule(word: str | EgressRule, action: Literal["allow", "deny"]) -> EgressRule:
    """The rule that a word means, with that action. Raises InvalidError."""
    from cloche.model.egress_checks import check_rule
    from cloche.model.egress_words import parse_rule

    if not isinstance(word, str):
        plain = msgspec.convert(msgspec.to_builtins(word), EgressRule)
        check_rule(plain)
        return plain
    found = parse_rule(word)
    if found.action != "allow":
        raise InvalidError(
            f"{word!r} says for itself what happens to it", field="rule", remedy=f"leave its first sign out: {word[1:]}"
        )
    if action == "deny" and found.preset is not None:
        raise InvalidError(
            f"a preset can only be allowed: {word}",
            field="rule",
            remedy=f"name its hosts: cloche policy presets {word}",
        )
    return msgspec.structs.replace(found, action=action)


def secrets(given: Iterable[SecretGiven], environ: Mapping[str, str] = os.environ) -> GivenSecrets:
    """Raises InvalidError for words that are wrong, and for a variable of this program that is not set."""
    if isinstance(given, str | Secret):
        raise InvalidError("secrets are a list, also when it is one", field="secrets", remedy=f"secrets=[{given!r}]")
    found: dict[str, Secret] = {}
    values: dict[str, str] = {}
    for each in given:
        secret, value = _secret(each, environ)
        found[secret.name] = secret
        if value is not None:
            values[secret.name] = value
    return GivenSecrets(list(found.values()), values)


def left_to_give(
    known: Iterable[Secret], given: Mapping[str, str], environ: Mapping[str, str] = os.environ
) -> list[tuple[Secret, str]]:
    """Of secrets that no node can read and nobody has given: those whose value this program's environment has."""
    wanted = [secret for secret in known if secret.source == SecretSource() and secret.name not in given]
    return [(secret, environ[secret.name]) for secret in wanted if secret.name in environ]


def _secret(each: SecretGiven, environ: Mapping[str, str]) -> tuple[Secret, str | None]:
    from cloche.model.secret_words import parse_secret

    if isinstance(each, tuple):
        secret = parse_secret(each[0]).secret if isinstance(each[0], str) else each[0]
        # what is given is not read from anywhere else
        return msgspec.structs.replace(secret, source=SecretSource()), each[1]
    if isinstance(each, Secret):
        return each, None
    secret, variable = parse_secret(each)
    if variable is None:
        return secret, None
    if variable not in environ:
        raise InvalidError(
            f"the secret {secret.name} has no value: the environment variable {variable} is not set",
            field="secrets",
            remedy=f"export {variable}=…, or say where it is: --secret {secret.name}=file:/path@{secret.hosts[0]}",
        )
    return secret, environ[variable]
