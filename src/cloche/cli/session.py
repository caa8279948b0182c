"""Session files: what one start of a sandbox is given and nobody stores."""

from __future__ import annotations

import re
from typing import Any, get_args

import msgspec

from cloche.cli import yaml_files
from cloche.model.egress import Action, EgressPolicy
from cloche.model.errors import InvalidError

#: a session travels in the body of a request, which may be twice as large
MAX_BYTES = 4 << 20
_KEYS = {"": ("name", "env", "egress"), "egress.": ("default", "rules", "budget", "accept")}
_ACTIONS = ("allow", "deny")


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """`net`: as `Sandbox.create` takes it; None: the file says nothing of the network. It is stored with the sandbox,
    the environment is not."""

    name: str | None = None
    env: dict[str, str] = {}
    net: EgressPolicy | str | None = None


def load(path: str) -> Session:
    """Read a session file. Raises NotFoundError, InvalidError naming the key."""
    parsed = yaml_files.read(path, "session file", max_bytes=MAX_BYTES, field="file")
    try:
        return parse(parsed if parsed is not None else {})
    except InvalidError as error:
        said = f"session file {path}: {error.message}"
        raise InvalidError(said, field=error.details.get("field"), remedy=error.remedy) from error


def parse(value: object) -> Session:
    """A session from what the YAML says."""
    found = _mapping(value, "")
    name = found.get("name")
    if name is not None and not isinstance(name, str):
        raise InvalidError("name must be text", field="name")
    return Session(name=name, env=_env(found.get("env")), net=_net(found.get("egress")))


def _env(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidError("env must map names to values", field="env")
    return {_env_name(key): _env_value(key, item) for key, item in value.items()}


def _env_name(key: object) -> str:
    if not isinstance(key, str) or not re.fullmatch(r"[^=\0]+", key):
        raise InvalidError(f"{key!r} cannot name an environment variable", field="env")
    return key


def _env_value(key: object, item: object) -> str:
    # YAML reads yes, 1.10 and 007 as other things than what was written; only text and whole numbers are safe
    if isinstance(item, bool) or not isinstance(item, str | int):
        raise InvalidError(f"env.{key} must be text: put it in quotes", field=f"env.{key}")
    return str(item)


def _net(value: object) -> EgressPolicy | str | None:
    """As in a policy file; a rule may also be `{domain: NAME, action: allow}`, as session files have always had it."""
    if value is None:
        return None
    # most say nothing of the network
    from cloche.cli import policies

    if not isinstance(value, dict):
        return policies.of_value(value)
    egress = _mapping(value, "egress.")
    if all(said in ("deny", None, []) for said in egress.values()):
        return "none"
    if egress.get("default", "deny") not in get_args(Action):
        said = f"egress.default must be allow, deny or ask, not {egress['default']!r}"
        raise InvalidError(said, field="egress.default")
    rules = egress.get("rules")
    return policies.of_value({**egress, "rules": [_rule(rule) for rule in rules] if isinstance(rules, list) else rules})


def _rule(rule: object) -> object:
    if not isinstance(rule, dict) or "domain" not in rule:
        return rule
    if set(rule) != {"domain", "action"} or not isinstance(rule["domain"], str) or rule["action"] not in _ACTIONS:
        raise InvalidError("a rule is a word, or `{domain: NAME, action: allow|deny}`", field="egress.rules")
    return {"action": rule["action"], "hosts": [rule["domain"]]}


def _mapping(value: object, prefix: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidError(f"{prefix.rstrip('.') or 'it'} must be a mapping", field=prefix.rstrip(".") or None)
    for key in value:
        if key not in _KEYS[prefix]:
            known = ", ".join(_KEYS[prefix])
            raise InvalidError(f"unknown key {prefix}{key} (there are {known})", field=f"{prefix}{key}")
    return value
