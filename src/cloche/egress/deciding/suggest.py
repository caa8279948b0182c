"""Writes the smallest policy that would have allowed what a sandbox tried.

It never names more than was tried, but for presets that are of no use in part: no wildcard for a family of names, since
nobody knows who owns the rest of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from cloche.egress.deciding import names, presets, ranges
from cloche.egress.deciding.attempt import Attempt, Decided
from cloche.egress.deciding.policy import Compiled, compile_policy, remedy_words
from cloche.model.egress import AuditLine, EgressPolicy, Protocol
from cloche.model.egress_words import parse_rule

MAX_TRIED = 4096
MAX_WORDS = 256

_INWARD = frozenset(["publish"])
_PROTOCOLS: dict[str, Protocol] = {"tls": "tls", "http": "http", "tcp": "tcp"}
#: no policy allows them
UNCARRIED = frozenset(["udp", "icmp", "other"])


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """`port` 0: only its name was asked for, or its protocol has no ports. `protocol` "udp", "icmp" or "other": no
    policy allows it."""

    host: str
    port: int = 0
    protocol: str = ""
    count: int = 1


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """`words`: for `--net`, comma separated. `tried`: what they are for, the most frequent first."""

    words: list[str]
    policy: EgressPolicy
    tried: list[Tried]


def suggest(lines: Iterable[AuditLine], attempts: Iterable[Tried] = ()) -> Suggestion:
    """`attempts`: what a closed sandbox's guest remembers; it may say anything."""
    lines = list(lines)
    tried, inner = _tried(lines, attempts), _inner_addresses(lines)
    carried = [item for item in tried if item.protocol not in UNCARRIED]
    wanted = {_attempt(item, inner.get(item.host)): None for item in carried}
    words = [name for name in presets.names() if _is_worth(presets.load(name), wanted)] if wanted else []
    words = _needed(words, list(wanted))
    allowed = _compiled(words)
    for attempt in wanted:
        word = remedy_words(attempt)
        if word is not None and word not in words and not _allows(allowed, attempt) and len(words) < MAX_WORDS:
            words.append(word)
    words = _without_doubles(words)
    return Suggestion(words=words, policy=EgressPolicy(rules=[parse_rule(word) for word in words]), tried=tried)


def _tried(lines: Iterable[AuditLine], attempts: Iterable[Tried]) -> list[Tried]:
    counts: Counter[tuple[str, int, str]] = Counter()
    for item in (*_of_lines(lines), *_of_guest(attempts)):
        host, protocol = _host(item.host), _protocol(item.protocol)
        known = (host, item.port, protocol)
        if host is None or not 0 <= item.port <= 65535 or (len(counts) >= MAX_TRIED and known not in counts):
            continue
        counts[host, item.port, protocol] += max(1, min(item.count, 1 << 40))
    connected = {host for host, port, protocol in counts if port or protocol in UNCARRIED}
    return [
        Tried(host=host, port=port, protocol=protocol, count=count)
        for (host, port, protocol), count in counts.most_common()
        if port or protocol in UNCARRIED or host not in connected
    ]


def _protocol(text: str) -> str:
    return text if text in UNCARRIED else _PROTOCOLS.get(text, "")


def _of_lines(lines: Iterable[AuditLine]) -> Iterator[Tried]:
    for line in lines:
        if line.via not in _INWARD:
            yield Tried(host=line.host, port=line.port, protocol=line.protocol, count=1 + line.repeated)


def _of_guest(attempts: Iterable[Tried]) -> Iterator[Tried]:
    """It saw a connection begin and none of its bytes, so what it calls the protocol says nothing."""
    for attempt in attempts:
        yield attempt if attempt.protocol in UNCARRIED else msgspec.structs.replace(attempt, protocol="")


def _inner_addresses(lines: Iterable[AuditLine]) -> dict[str, str]:
    """By name, of those whose address is forbidden unless it is allowed with the name."""
    known = (line for line in lines if line.address)
    return {line.host: line.address for line in known if ranges.forbidden(line.address) is not None}


def _host(text: str) -> str | None:
    """None for what no policy can allow."""
    try:
        host = names.read_host(text)
    except ValueError:
        return None
    attempt = Attempt(host=host.text, is_address=host.is_address, port=443)
    return None if remedy_words(attempt) is None else host.text


def _attempt(tried: Tried, address: str | None) -> Attempt:
    """A protocol that nobody saw is the usual one of its port."""
    port = tried.port or 443
    usual: dict[int, Protocol] = {443: "tls", 80: "http"}
    protocol = _PROTOCOLS.get(tried.protocol) or usual.get(port, "tcp")
    is_address = names.is_address(tried.host)
    return Attempt(host=tried.host, is_address=is_address, port=port, protocol=protocol, address=address)


def _is_worth(preset: presets.Preset, wanted: Iterable[Attempt]) -> bool:
    compiled = _compiled([preset.name])
    return len({attempt.host for attempt in wanted if _allows(compiled, attempt)}) >= _least(preset.name)


def _least(preset: str) -> int:
    """So many of its hosts have to be tried: one, of a preset that is of no use in part."""
    return 1 if presets.load(preset).whole else 2


def _needed(words: list[str], wanted: list[Attempt]) -> list[str]:
    """The fewest presets, found greedily: those that cover the most first, the smaller one of equals."""
    chosen: list[str] = []
    left = list(wanted)
    compiled = {word: _compiled([word]) for word in words}
    while compiled:
        gains = {word: sum(_allows(policy, attempt) for attempt in left) for word, policy in compiled.items()}
        best = min(gains, key=lambda word: (-gains[word], len(presets.load(word).rules), word))
        if gains[best] < _least(best):
            break
        chosen.append(best)
        policy = compiled.pop(best)
        left = [attempt for attempt in left if not _allows(policy, attempt)]
    return chosen


def _compiled(words: list[str]) -> Compiled:
    return compile_policy(EgressPolicy(rules=[parse_rule(word) for word in words]))


def _allows(compiled: Compiled, attempt: Attempt) -> bool:
    decision = compiled.decide(attempt)
    return isinstance(decision, Decided) and decision.action == "allow"


def _without_doubles(words: list[str]) -> list[str]:
    """One word for the ports of one host: `example.com:22+8080`."""
    ports: dict[str, list[str]] = {}
    for word in words:
        host, _, port = word.rpartition(":")
        if host and "@" not in word and port.isdigit():
            ports.setdefault(host, []).append(port)
    joined = []
    for word in words:
        host, _, port = word.rpartition(":")
        several = ports.get(host, [])
        if len(several) < 2 or port not in several:
            joined.append(word)
        elif port == several[0]:
            joined.append(f"{host}:{'+'.join(sorted(several, key=int))}")
    return joined
