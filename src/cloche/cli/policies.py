"""Network policies as they are given to commands: in words, or in a file."""

from __future__ import annotations

from typing import Any

import msgspec

from cloche.cli import yaml_files
from cloche.model.egress import EgressPolicy
from cloche.model.egress_checks import check_policy
from cloche.model.egress_words import parse_policy, parse_rule
from cloche.model.errors import InvalidError

MAX_BYTES = 1 << 20
_EXAMPLE = "rules are words, or such as {hosts: [api.example.com], methods: [GET]}"


def read(text: str) -> str | EgressPolicy:
    """What `net=` of the SDK takes, of `--net`: words, or @FILE. Raises InvalidError, NotFoundError."""
    if not text.startswith("@"):
        parse_policy(text)
        return text
    return of_file(text[1:])


def of_file(path: str) -> str | EgressPolicy:
    """A policy in YAML or JSON: words, a list of words, or the fields of an EgressPolicy, whose rules may be words
    too. Raises InvalidError naming the field, NotFoundError."""
    value = yaml_files.read(path, "policy file", max_bytes=MAX_BYTES, field="net")
    try:
        return of_value(value)
    except InvalidError as error:
        said = f"policy file {path}: {error.message}"
        raise InvalidError(said, remedy=error.remedy or _EXAMPLE, **error.details) from error


def of_value(value: Any) -> str | EgressPolicy:
    """The same of what such a file says. Raises InvalidError."""
    if value is None or isinstance(value, str):
        parse_policy(value or "none")
        return value or "none"
    if isinstance(value, list):
        value = {"rules": value}
    if not isinstance(value, dict):
        raise InvalidError("a policy is words, a list of words, or a mapping with `rules`", field="egress")
    rules = [] if value.get("rules") is None else value["rules"]
    if not isinstance(rules, list):
        raise InvalidError("rules must be a list", field="egress.rules")
    try:
        found = msgspec.convert({**value, "rules": [_rule(rule, at) for at, rule in enumerate(rules)]}, EgressPolicy)
    except msgspec.ValidationError as error:
        raise InvalidError(str(error), field="egress") from error
    check_policy(found)
    return found


def _rule(rule: Any, at: int) -> Any:
    if not isinstance(rule, str):
        return rule
    try:
        return msgspec.to_builtins(parse_rule(rule))
    except InvalidError as error:
        raise InvalidError(f"rules[{at}]: {error.message}", field=f"egress.rules[{at}]") from error
