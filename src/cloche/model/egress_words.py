"""Policies in words, as people type them: `--net pypi,api.example.com:8443,!*.tracker.example`.

    none                      closed; alone        allow, deny, ask   what happens to the rest
    pypi                      a preset             api.example.com    a host: TLS and HTTP on ports 80 and 443
    *.example.com             one label below it   **.example.com     any number of labels below it; * any name
    example.com:22            any protocol there   example.com:80+8000-8100    several ports
    10.0.0.0/8  1.2.3.4:5432  addresses            [::1]:80  [fd00::/8]
    db.example.com@10.0.0.0/8 addresses that are forbidden otherwise, which this name may have
    https://api.example.com/v1/**     only these paths     GET+HEAD https://api.example.com/**   only these methods
    tls://, http://, tcp://   only that protocol   api.example.com inspect     the door looks inside the TLS
    !word  denies             ?word  asks          {"hosts": […]}     anything else: a rule as JSON
    out=10m  in=1g  connections=100  rate=5m/s     budgets             accept=web:8000    who may connect

What denies or asks, and names no port, is meant for every port and protocol."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

import msgspec

from cloche.model.egress import Action, EgressPolicy, EgressRule, Protocol
from cloche.model.egress_checks import PRESET, check_policy, check_rule
from cloche.model.egress_pairs import is_pair, pair_words, parse_pairs
from cloche.model.errors import InvalidError

MAX_TEXT = 64 << 10

_WHOLE = "set the whole policy with it: cloche policy set BOX pypi,out=10m"
_SIGNS: dict[str, Action] = {"!": "deny", "?": "ask"}
_DEFAULTS: dict[str, Action] = {"allow": "allow", "deny": "deny", "ask": "ask"}
_METHODS = re.compile(r"([A-Z-]+(?:\+[A-Z-]+)*) +(?=\S)")
_URL = re.compile(r"(https|http|tls|tcp)://([^/]*)(/.*)?")
#: of an URL: protocol, and the port when none is named
_SCHEMES: dict[str, tuple[Protocol, list[str]]] = {
    "https": ("tls", ["443"]),
    "http": ("http", ["80"]),
    "tls": ("tls", []),
    "tcp": ("tcp", []),
}
_ADDRESS4 = re.compile(r"[0-9.]+(?:/[0-9]+)?")


def parse_policy(text: str) -> EgressPolicy | None:
    """None: closed. Raises InvalidError naming the word that is wrong."""
    if len(text) > MAX_TEXT:
        raise InvalidError(f"a policy of more than {MAX_TEXT} characters", field="egress")
    words = list(_split(text))
    if words == ["none"]:
        return None
    if not words:
        raise InvalidError("an empty policy: `none` closes the network", field="egress")
    return policy_of(words)


def policy_of(words: Sequence[str | EgressRule]) -> EgressPolicy:
    """The same of words that stand apart already, none of which is `none`. Raises InvalidError."""
    defaults = [_DEFAULTS[word] for word in words if isinstance(word, str) and word in _DEFAULTS]
    if len(defaults) > 1:
        raise InvalidError(f"{' and '.join(defaults)}: only one of them can be for the rest", field="egress")
    if "none" in words:
        raise InvalidError("`none` closes the network, and stands alone: leave it out, or the rest", field="egress")
    budget, accept = parse_pairs(word for word in words if isinstance(word, str) and is_pair(word))
    policy = EgressPolicy(
        default=defaults[0] if defaults else "deny",
        rules=[rule for word in words for rule in _rules(word)],
        budget=budget,
        accept=accept,
    )
    check_policy(policy)
    return policy


def _rules(word: str | EgressRule) -> list[EgressRule]:
    """None for a word of another kind."""
    if isinstance(word, EgressRule):
        return [word]
    return [] if word in _DEFAULTS or is_pair(word) else [parse_rule(word)]


def policy_words(policy: EgressPolicy | None) -> str:
    """What `parse_policy` reads."""
    if policy is None:
        return "none"
    words = [*map(rule_words, policy.rules), *pair_words(policy)]
    return ",".join([*words, *([policy.default] if policy.default != "deny" or not words else [])])


def parse_rule(word: str) -> EgressRule:
    """Raises InvalidError."""
    if len(word) > MAX_TEXT:
        raise InvalidError(f"a rule of more than {MAX_TEXT} characters", field="egress")
    text = word.strip()
    if is_pair(text):
        raise InvalidError(f"{text[:100]!r} is of a whole policy, and no rule", field="egress", remedy=_WHOLE)
    if text.startswith("{"):
        rule = _parse_json(text)
        check_rule(rule)
        return rule
    try:
        rule = _parse_word(text)
        check_rule(rule, "")
    except InvalidError as error:
        raise _named(text, error) from error
    return rule


def rule_words(rule: EgressRule) -> str:
    """The word that `parse_rule` reads as this rule."""
    short = _short_words(rule)
    try:
        if short is not None and "," not in short and parse_rule(short) == rule:
            return short
    except InvalidError:
        pass
    return json.dumps(msgspec.to_builtins(_without_defaults(rule)), ensure_ascii=False)


def _split(text: str) -> Iterator[str]:
    """At commas, but not at those of a rule in JSON."""
    rest = text.strip()
    while rest:
        if rest.startswith("{"):
            end = _json_end(rest)
            word, rest = rest[:end], rest[end:].lstrip()
            if rest and not rest.startswith(","):
                raise InvalidError(f"a comma is missing before {rest[:40]!r}", field="egress")
            rest = rest[1:].strip()
        else:
            word, _, rest = rest.partition(",")
            rest = rest.strip()
        if word.strip():
            yield word.strip()


def _json_end(text: str) -> int:
    try:
        return json.JSONDecoder().raw_decode(text)[1]
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"a rule in JSON that is none: {error}", field="egress") from error


def _parse_json(text: str) -> EgressRule:
    try:
        return msgspec.json.decode(text, type=EgressRule)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidError(f"a rule in JSON that is none: {error}", field="egress") from error


def _parse_word(text: str) -> EgressRule:
    action: Action = "allow"
    if text[:1] in _SIGNS:
        action, text = _SIGNS[text[0]], text[1:].strip()
    if not text or text in _DEFAULTS or text == "none":
        raise _wrong("a host, a range of addresses or a preset is missing")
    if PRESET.fullmatch(text.lower()):
        return _preset(text.lower(), action)
    methods: list[str] = []
    if match := _METHODS.match(text):
        methods, text = match[1].split("+"), text[match.end() :]
    target, *options = text.split()
    rule = _parse_target(target, bool(methods))
    changes: dict[str, object] = {"action": action, "methods": methods, **_options(options)}
    if methods or rule.paths:
        changes["tls"] = "inspect"
    return msgspec.structs.replace(rule, **changes)


def _preset(name: str, action: Action) -> EgressRule:
    if action != "allow":
        raise _wrong("a preset allows; deny or ask for hosts")
    return EgressRule(preset=name)


def _options(words: list[str]) -> dict[str, object]:
    known: dict[str, dict[str, object]] = {"inspect": {"tls": "inspect"}, "ech": {"encrypted_hello": True}}
    unknown = [word for word in words if word not in known]
    if unknown:
        raise _wrong(f"behind a host stands `inspect`, `ech` or nothing, and not {unknown[0]!r}")
    return {key: value for word in words for key, value in known[word].items()}


def _parse_target(text: str, with_method: bool) -> EgressRule:
    url = _URL.fullmatch(text)
    if url is None:
        if with_method:
            raise _wrong("a method stands before an URL: GET https://example.com/**")
        return _parse_places(text)
    protocol, usual = _SCHEMES[url[1]]
    if url[3] and protocol == "tcp":
        raise _wrong("paths are of http and https")
    rule = _parse_places(url[2])
    return msgspec.structs.replace(
        rule, protocols=[protocol], ports=rule.ports or usual, paths=[url[3]] if url[3] else []
    )


def _parse_places(text: str) -> EgressRule:
    """`HOST[+HOST…][:PORTS][@RANGES]`."""
    text, _, ranges = text.partition("@")
    addresses = [_bare(part) for part in ranges.split("+")] if ranges else []
    places, ports = _parse_ports(text)
    parts = places.split("+")
    numbers = [part for part in parts if part.startswith("[") or _ADDRESS4.fullmatch(part)]
    if not places or 0 < len(numbers) < len(parts):
        raise _wrong("a rule is for hosts, or for ranges of addresses")
    if numbers:
        return EgressRule(cidrs=[_bare(part) for part in parts], ports=ports, addresses=addresses)
    return EgressRule(hosts=[part.lower() for part in parts], ports=ports, addresses=addresses)


def _parse_ports(text: str) -> tuple[str, list[str]]:
    places, colon, ports = text.rpartition(":")
    if not colon or "]" in ports:
        return text, []
    if ":" in places and "[" not in places:
        raise _wrong("an IPv6 address stands in brackets: [::1]:80")
    return places, ports.split("+")


def _bare(part: str) -> str:
    return part[1:-1] if part.startswith("[") and part.endswith("]") else part


def _short_words(rule: EgressRule) -> str | None:
    """A word that may be it; None when there is none for sure."""
    if rule.preset is not None:
        return rule.preset
    places = "+".join(rule.hosts or [f"[{text}]" if ":" in text else text for text in rule.cidrs])
    if not places:
        return None
    ranges = "@" + "+".join(f"[{text}]" if ":" in text else text for text in rule.addresses) if rule.addresses else ""
    scheme, usual = _scheme(rule)
    ports = "" if rule.ports == usual else ":" + "+".join(rule.ports)
    sign = {"deny": "!", "ask": "?", "allow": ""}[rule.action]
    methods = "+".join(rule.methods) + " " if rule.methods else ""
    options = " inspect" if rule.tls == "inspect" and not (rule.methods or rule.paths) else ""
    ech = " ech" if rule.encrypted_hello else ""
    return f"{sign}{methods}{scheme}{places}{ports}{ranges}{''.join(rule.paths[:1])}{options}{ech}"


def _scheme(rule: EgressRule) -> tuple[str, list[str]]:
    """How its word begins, and the ports that need not be said then."""
    if len(rule.protocols) != 1:
        return "", []
    protocol = rule.protocols[0]
    if protocol == "http" and rule.ports:
        return "http://", ["80"]
    if protocol == "tls" and rule.ports:
        return "https://", ["443"]
    return f"{protocol}://", []


def _without_defaults(rule: EgressRule) -> dict[str, object]:
    plain = EgressRule()
    return {name: value for name in rule.__struct_fields__ if (value := getattr(rule, name)) != getattr(plain, name)}


def _named(word: str, error: InvalidError) -> InvalidError:
    """The same of the word that somebody typed; fields are of no help there."""
    field = str(error.details.get("field") or "")
    said = error.message.removeprefix(f"{field}: ") if field else error.message
    host, slash, path = word.partition("/")
    if slash and field == ".hosts" and "://" not in word:
        said = f"a path goes with a protocol: https://{host.lstrip('!?')}/{path}"
    return InvalidError(f"{word[:100]!r}: {said}", field="egress")


def _wrong(message: str) -> InvalidError:
    return InvalidError(message)
