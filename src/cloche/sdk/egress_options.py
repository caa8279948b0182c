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
#: how the node calls a value that did not come with the request
_VALUE_FIELD = "session.secrets."


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
            f"{word!r} says for itself what happens to it",
            field="rule",
            remedy=f"leave its first sign out: {word.strip()[1:]}; or put it into the whole policy: cloche policy set",
        )
    if action == "deny" and found.preset is not None:
        raise InvalidError(
            f"a preset can only be allowed: {word}",
            field="rule",
            remedy=f"name its hosts: cloche policy presets {word}",
        )
    return msgspec.structs.replace(found, action=action)


def secrets(given: Iterable[SecretGiven]) -> list[Secret]:
    """Without any value. Raises InvalidError for words that are wrong."""
    return list({word.secret.name: word.secret for word in _words(given)}.values())


def values(given: Iterable[SecretGiven], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Name → value of those that the client gives. Raises InvalidError for a variable of this program that is not
    set."""
    return {word.secret.name: value for word in _words(given) if (value := _value(word, environ)) is not None}


def completed(known: dict[str, str], refused: InvalidError, environ: Mapping[str, str] = os.environ) -> bool:
    """Add to `known` the value that a create was refused for: a secret of a template or a snapshot, whose value is that
    of whoever makes the sandbox. False: it is not here."""
    field = str(refused.details.get("field", ""))
    name = field.removeprefix(_VALUE_FIELD)
    variable = str(refused.details.get("variable", name))
    if name == field or name in known or variable not in environ:
        return False
    known[name] = environ[variable]
    return True


class _Word(NamedTuple):
    """`variable`: where the value is; `value`: itself."""

    secret: Secret
    variable: str | None = None
    value: str | None = None


def _words(given: Iterable[SecretGiven]) -> list[_Word]:
    if isinstance(given, str | Secret):
        raise InvalidError("secrets are a list, also when it is one", field="secrets", remedy="secrets=[…]")
    return [_word(each) for each in given]


def _word(each: SecretGiven) -> _Word:
    from cloche.model.secret_words import parse_secret

    if isinstance(each, tuple):
        secret = parse_secret(each[0]).secret if isinstance(each[0], str) else each[0]
        # what is given is not read from anywhere else
        return _Word(msgspec.structs.replace(secret, source=SecretSource()), value=each[1])
    return _Word(each, each.source.variable) if isinstance(each, Secret) else _Word(*parse_secret(each))


def _value(word: _Word, environ: Mapping[str, str]) -> str | None:
    if word.variable is None:
        return word.value
    if word.variable not in environ:
        name, variable = word.secret.name, word.variable
        raise InvalidError(
            f"the secret {name} has no value: the environment variable {variable} is not set",
            field="secrets",
            remedy=f"export {variable}=…, or say where it is: --secret {name}=file:/path@{word.secret.hosts[0]}",
        )
    return environ[word.variable]
