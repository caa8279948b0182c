"""One rule made ready to be held against attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cloche.egress.deciding import paths, ranges
from cloche.egress.deciding.attempt import Attempt, Need
from cloche.model.egress import WEB_PORTS, Action, EgressRule, Protocol, Tls
from cloche.model.egress_checks import network, port_bounds
from cloche.model.egress_words import rule_words

MAX_WORDS = 160

_WEB: frozenset[Protocol] = frozenset(["tls", "http"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyRule:
    """Empty `ports`, `networks`, `protocols`, `methods` and `globs` match all. Its hosts are in an index (or it has
    none). `words`: how a decision calls it."""

    action: Action
    words: str
    reason: str = ""
    has_hosts: bool = False
    networks: tuple[ranges.Span, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    protocols: frozenset[Protocol] = frozenset()
    methods: frozenset[str] = frozenset()
    globs: tuple[paths.PathGlob, ...] = ()
    tls: Tls = "pass"
    opened: tuple[str, ...] = ()
    encrypted_hello: bool = False

    @property
    def is_unconditional(self) -> bool:
        """Whether it matches whatever is found out of a host that it matches."""
        return not (self.networks or self.ports or self.protocols or self.methods or self.globs)

    @property
    def is_of_requests(self) -> bool:
        return bool(self.methods or self.globs)

    def unknown(self, attempt: Attempt, address: str | None) -> list[Need] | None:
        """None: it does not match. Else what has to be known to be sure; empty: it matches."""
        if self.ports and not any(first <= attempt.port <= last for first, last in self.ports):
            return None
        needs: list[Need] = []
        for part in (self._address, self._protocol, self._request):
            answer = part(attempt, address)
            if answer is False:
                return None
            if answer is not True:
                needs.append(answer)
        return needs

    def _address(self, attempt: Attempt, address: str | None) -> bool | Literal["address"]:
        if not self.networks:
            return True
        if address is None:
            return "address"
        return ranges.contains(self.networks, address)

    def _protocol(self, attempt: Attempt, address: str | None) -> bool | Literal["protocol"]:
        if attempt.protocol is None:
            return "protocol" if self.protocols or self.methods or self.globs else True
        if self.is_of_requests and attempt.protocol == "tcp" and self.action == "allow":
            return False
        return not self.protocols or attempt.protocol in self.protocols

    def _request(self, attempt: Attempt, address: str | None) -> bool | Literal["request"]:
        if attempt.protocol == "tcp":
            # a rule that allows requests does not match; for one that denies or asks, who knows what is in there
            return True
        known: bool | Literal["request"] = True
        if self.methods:
            if attempt.method is None:
                known = "request"
            elif not self._method_matches(attempt.method):
                return False
        if self.globs:
            if attempt.path is None:
                known = "request"
            elif not self._path_matches(paths.without_query(attempt.path)):
                return False
        return known

    def _method_matches(self, method: str) -> bool:
        # a server may take "post" for POST: that gets nobody past a rule that denies, and nobody in by one that allows
        return (method if self.action == "allow" else method.upper()) in self.methods

    def _path_matches(self, raw: str) -> bool:
        if any(glob.matches_all for glob in self.globs):
            return True
        plain = paths.plain_path(raw)
        if plain is None:
            return self.action != "allow" or any(glob.text == raw for glob in self.globs)
        if self.action != "allow":
            return any(glob.resembles(plain) for glob in self.globs)
        return any(glob.matches(plain) for glob in self.globs)


def ready(rule: EgressRule, words: str) -> ReadyRule:
    """`rule` is checked, and names no preset."""
    networks = tuple(network(text) for text in rule.cidrs)
    narrow = rule.action == "allow" and bool(rule.hosts)
    ports = rule.ports or ([str(port) for port in WEB_PORTS] if narrow else [])
    protocols: frozenset[Protocol] = frozenset(rule.protocols)
    if narrow and not rule.ports and not rule.protocols:
        protocols = _WEB
    return ReadyRule(
        action=rule.action,
        words=words,
        reason=rule.note,
        has_hosts=bool(rule.hosts),
        networks=tuple(ranges.span(found) for found in networks),
        ports=tuple(port_bounds(text) for text in ports),
        protocols=protocols,
        methods=frozenset(rule.methods),
        globs=tuple(paths.PathGlob(text) for text in rule.paths),
        tls="inspect" if rule.methods or rule.paths else rule.tls,
        opened=(*rule.addresses, *(str(found) for found in networks if _is_meant(found))),
        encrypted_hello=rule.encrypted_hello,
    )


def numbered_words(rule: EgressRule, number: int) -> str:
    """`rule 3 (deny *.example.com)`."""
    words = rule_words(rule).lstrip("!?")
    shown = words if len(words) <= MAX_WORDS else words[: MAX_WORDS - 1] + "…"
    return f"rule {number} ({rule.action} {shown})"


def _is_meant(found: ranges.Network) -> bool:
    """Whoever names a private range, or one single address, means it; whoever names 0.0.0.0/0 does not."""
    return found.num_addresses == 1 or ranges.is_all_forbidden(found)
