"""Network policies as they are given to commands: in words, or in a file."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from cloche.cli import yaml_files
from cloche.model.egress import EgressBudget, EgressPolicy, EgressRule
from cloche.model.egress_checks import check_policy
from cloche.model.egress_pairs import is_pair, parse_accept, parse_pairs
from cloche.model.egress_words import parse_policy, parse_rule, policy_of
from cloche.model.errors import InvalidError
from cloche.model.limits import parse_size_bytes

T = TypeVar("T")

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
        return policy_of([word if isinstance(word, str) else _converted(word, EgressRule) for word in value])
    if not isinstance(value, dict):
        raise InvalidError("a policy is words, a list of words, or a mapping with `rules`", field="egress")
    _only(value, EgressPolicy, "a policy")
    known = {"rules": _rules, "budget": _budget, "accept": _accept}
    found = _converted({key: known.get(key, _same)(said) for key, said in value.items()}, EgressPolicy)
    check_policy(found)
    return found


def _only(said: dict[Any, Any], kind: type[msgspec.Struct], called: str) -> None:
    for key in said:
        if key not in kind.__struct_fields__:
            known = ", ".join(kind.__struct_fields__)
            raise InvalidError(f"{called} has no `{key}`", field=f"egress.{key}", remedy=f"there are {known}")


def _same(said: Any) -> Any:
    return said


def _converted(said: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        raise InvalidError(str(error), field="egress") from error


def _rules(said: Any) -> list[Any]:
    if said is None:
        return []
    if not isinstance(said, list):
        raise InvalidError("rules must be a list", field="egress.rules")
    return [_rule(rule, at) for at, rule in enumerate(said)]


def _rule(rule: Any, at: int) -> Any:
    if not isinstance(rule, str):
        return rule
    try:
        return msgspec.to_builtins(parse_rule(rule))
    except InvalidError as error:
        remedy = "put it below `budget:` or `accept:`" if is_pair(rule) else error.remedy
        raise InvalidError(f"rules[{at}]: {error.message}", field=f"egress.rules[{at}]", remedy=remedy) from error


def _budget(said: Any) -> Any:
    """Words such as `out=10m,connections=50`, or fields, whose sizes may be `10m` as well as numbers."""
    if isinstance(said, str):
        return msgspec.to_builtins(parse_pairs(said.split(","))[0])
    if not isinstance(said, dict):
        return said or {}
    _only(said, EgressBudget, "a budget")
    return {field: _size(field, number) for field, number in said.items()}


def _size(field: str, number: Any) -> Any:
    if not (isinstance(number, str) and field.startswith("bytes_")):
        return number
    try:
        return parse_size_bytes(number)
    except InvalidError as error:
        raise InvalidError(f"budget: {field}: {error.message}", field=f"egress.budget.{field}") from error


def _accept(said: Any) -> Any:
    """Words such as `web:8000`, or fields."""
    if not isinstance(said, list):
        return said or []
    return [msgspec.to_builtins(parse_accept(rule)) if isinstance(rule, str) else rule for rule in said]
