"""Says which field of a policy or of a secret is wrong, before anything is made of it. Syntax only: whether a preset
exists, and what IDNA makes of a name, the node knows (`egress/deciding/policy.py`)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import get_args

import msgspec

from cloche.model.egress import (
    MAX_PATTERNS,
    MAX_RULES,
    MAX_SECRETS,
    AcceptRule,
    Action,
    EgressBudget,
    EgressPolicy,
    EgressRule,
    Protocol,
    Secret,
    Tls,
)
from cloche.model.errors import InvalidError
from cloche.model.secret_checks import check_secret

#: the node sends it to its door in one message, which has to hold the secrets as well
MAX_POLICY_BYTES = 96 << 10
MAX_PATH = 2048
MAX_NOTE = 256

PRESET = re.compile(r"[a-z][a-z0-9-]{0,62}")
SANDBOX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: other scripts are allowed here, and judged by IDNA later; what no name in any script has is not
_LABEL = re.compile(r"[^\s.,:;!?@/\\|+*%#\"'`(){}\[\]<>=&$^~-][^\s.,:;!?@/\\|+*%#\"'`(){}\[\]<>=&$^~]{0,62}")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")
_ZONE, _MAPPED = "it has a zone", "write it as the IPv4 range that it is"
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def check_policy(policy: EgressPolicy) -> None:
    """Raises InvalidError; `field` is such as `egress.rules[3].hosts`."""
    _one_of(policy.default, Action, "egress.default")
    if len(policy.rules) > MAX_RULES:
        raise _wrong("egress.rules", f"at most {MAX_RULES} rules")
    if sum(len(rule.hosts) + len(rule.cidrs) + len(rule.paths) for rule in policy.rules) > MAX_PATTERNS:
        raise _wrong("egress.rules", f"at most {MAX_PATTERNS} hosts, ranges and paths in all")
    for index, rule in enumerate(policy.rules):
        check_rule(rule, f"egress.rules[{index}]")
    _check_budget(policy.budget)
    if len(policy.accept) > MAX_RULES:
        raise _wrong("egress.accept", f"at most {MAX_RULES}")
    for index, accept in enumerate(policy.accept):
        _check_accept(accept, f"egress.accept[{index}]")
    if len(msgspec.json.encode(policy)) > MAX_POLICY_BYTES:
        raise _wrong("egress", f"the policy is larger than {MAX_POLICY_BYTES >> 10} KiB")


def check_rule(rule: EgressRule, field: str = "rule") -> None:
    """Raises InvalidError; `field` is what the rule is called in its message."""
    _one_of(rule.action, Action, f"{field}.action")
    _one_of(rule.tls, Tls, f"{field}.tls")
    if len(rule.note) > MAX_NOTE or not rule.note.isprintable():
        raise _wrong(f"{field}.note", f"at most {MAX_NOTE} printable characters")
    if rule.preset is not None:
        _check_preset(rule, field)
        return
    for protocol in rule.protocols:
        _one_of(protocol, Protocol, f"{field}.protocols")
    for host in rule.hosts:
        check_host_pattern(host, f"{field}.hosts")
    for name in ("cidrs", "addresses"):
        for text in getattr(rule, name):
            _check_range(text, f"{field}.{name}")
    for ports in rule.ports:
        _check_ports(ports, f"{field}.ports")
    _check_requests(rule, field)


def check_secrets(secrets: Sequence[Secret]) -> None:
    """Raises InvalidError; `field` is such as `secrets[0].hosts`."""
    if len(secrets) > MAX_SECRETS:
        raise _wrong("secrets", f"at most {MAX_SECRETS}")
    seen: set[str] = set()
    for index, secret in enumerate(secrets):
        check_secret(secret, f"secrets[{index}]")
        for host in secret.hosts:
            check_host_pattern(host, f"secrets[{index}].hosts")
        if secret.name in seen:
            raise _wrong(f"secrets[{index}].name", f"{secret.name} is given twice")
        seen.add(secret.name)


def check_host_pattern(pattern: str, field: str) -> None:
    """Raises InvalidError for what is no `example.com`, `*.example.com`, `**.example.com` or `*`."""
    if pattern == "*":
        return
    name = pattern.removeprefix("**.") if pattern.startswith("**.") else pattern.removeprefix("*.")
    name = name.removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not name.isprintable() or not all(_LABEL.fullmatch(label) for label in labels):
        raise _wrong(field, f"{_shown(pattern)} is no host: give example.com, *.example.com, **.example.com or *")
    if _NUMBER.fullmatch(labels[-1]):
        raise _wrong(field, f"{_shown(pattern)} is an address: it belongs into cidrs")


def port_bounds(text: str) -> tuple[int, int]:
    """First and last port of "443" or "8000-8100". Raises ValueError."""
    match = _PORTS.fullmatch(text)
    if match is None:
        raise ValueError(f"{_shown(text)} is neither a port nor a range of ports")
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"ports are 1 to 65535, the smaller one first, and not {text!r}")
    return first, last


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Of a range or of one address. Raises ValueError."""
    found = ipaddress.ip_network(text)
    if isinstance(found, ipaddress.IPv6Network):
        if found.network_address.scope_id is not None:
            raise ValueError(_ZONE)
        if found.network_address.ipv4_mapped is not None and found.prefixlen >= 96:
            raise ValueError(_MAPPED)
    return found


def _check_preset(rule: EgressRule, field: str) -> None:
    assert rule.preset is not None
    if not PRESET.fullmatch(rule.preset):
        raise _wrong(f"{field}.preset", f"{_shown(rule.preset)} is no name of a preset")
    if msgspec.structs.replace(rule, preset=None, note="") != EgressRule():
        raise _wrong(f"{field}.preset", "a rule that names a preset has nothing else but a note")


def _check_range(text: str, field: str) -> None:
    try:
        network(text)
    except ValueError as error:
        raise _wrong(
            field, f"{_shown(text)} is neither an address nor a range such as 10.0.0.0/8{_why(error)}"
        ) from error


def _check_ports(text: str, field: str) -> None:
    try:
        port_bounds(text)
    except ValueError as error:
        raise _wrong(field, str(error)) from error


def _check_requests(rule: EgressRule, field: str) -> None:
    for method in rule.methods:
        if not _METHOD.fullmatch(method):
            raise _wrong(f"{field}.methods", f"{_shown(method)} is no method: GET, POST …")
    for path in rule.paths:
        _check_path(path, f"{field}.paths")
    if (rule.methods or rule.paths or rule.tls == "inspect") and rule.protocols and set(rule.protocols) == {"tcp"}:
        raise _wrong(f"{field}.protocols", "requests are seen in http and tls, and not in tcp")


def _check_path(path: str, field: str) -> None:
    if not path.startswith("/") or len(path) > MAX_PATH or not path.isprintable() or "?" in path or "#" in path:
        raise _wrong(
            field, f"{_shown(path)}: a path begins with /, has no ? and no #, and at most {MAX_PATH} characters"
        )
    if any("**" in segment and segment != "**" for segment in path.split("/")):
        raise _wrong(field, f"{_shown(path)}: ** stands alone between two /")


def _check_budget(budget: EgressBudget) -> None:
    for name in budget.__struct_fields__:
        value = getattr(budget, name)
        if value is not None and not 0 <= value < 1 << 62:
            raise _wrong(f"egress.budget.{name}", f"{name} is a number from 0 on")


def _check_accept(accept: AcceptRule, field: str) -> None:
    for name in accept.sandboxes:
        if name != "*" and not SANDBOX.fullmatch(name):
            raise _wrong(f"{field}.sandboxes", f"{_shown(name)} is no name of a sandbox")
    for ports in accept.ports:
        _check_ports(ports, f"{field}.ports")
    if len(accept.sandboxes) > MAX_PATTERNS or len(accept.ports) > MAX_PATTERNS:
        raise _wrong(field, f"at most {MAX_PATTERNS} names and ports")


def _one_of(value: str, words: object, field: str) -> None:
    allowed: Iterable[str] = get_args(words)
    if value not in allowed:
        raise _wrong(field, f"{_shown(value)} is none of {', '.join(allowed)}")


def _why(error: ValueError) -> str:
    """What `network` says itself; ipaddress only repeats the text."""
    if "host bits" in str(error):
        return ": bits behind the prefix are set"
    return f": {error}" if str(error) in (_ZONE, _MAPPED) else ""


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:99] + "…")


def _wrong(field: str, message: str) -> InvalidError:
    return InvalidError(f"{field}: {message}", field=field)
