"""Policies and what became of connections, as lines for people. Pure; what a sandbox said is made harmless here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from cloche.cli import cells, render
from cloche.cli.render import clean
from cloche.model.egress import AuditLine, EgressBudget, EgressCounters, EgressPolicy, EgressRule, Secret
from cloche.model.secret_words import secret_words
from cloche.sdk.egress_values import EgressInfo, PresetInfo, Tried, rule_word, words

_DOORS = {
    "open": "open",
    "closed": "closed: nothing leaves, and no name is answered",
    "down": "down: the door does not answer now, so nothing leaves",
}
_TITLE = 10
#: what code sent that was no TCP
UNCARRIED = {"udp": "UDP", "icmp": "ping", "other": "another protocol"}
MAX_PLACES = 5


def state(info: EgressInfo, box: str) -> Iterator[str]:
    """Everything that `policy show` shows."""
    yield from _titled("sandbox", clean(box))
    yield from _titled("policy", clean(words(info.policy)))
    yield from _titled("door", _door(info))
    if info.policy is not None:
        yield from _policy(info.policy, info.counters)
        yield from _titled("programs", _programs(info.transparent_tcp))
    for kept in info.secrets:
        yield from _titled("secret", f"{clean(secret(kept))}; {_use(kept, info)}")
    if info.policy is not None:
        yield from _titled("traffic", traffic(info.counters))


def _door(info: EgressInfo) -> str:
    if info.door == "closed" and info.policy is not None:
        return "closed while the sandbox does not run; the policy holds when it starts"
    return _DOORS.get(info.door, clean(info.door))


def _use(kept: Secret, info: EgressInfo) -> str:
    if kept.name in info.missing_secrets:
        return "no value here, give it again: cloche policy secret"
    return (
        "its hosts are allowed, port 443, unless a rule denies it"
        if info.policy is not None
        else "not used while the sandbox is closed"
    )


def _policy(policy: EgressPolicy, counters: EgressCounters) -> Iterator[str]:
    for number, rule in enumerate(policy.rules):
        yield from _titled("rules" if number == 0 else "", f"{number + 1}. {_rule(rule)}")
    yield from _titled("the rest", {"deny": "is refused", "ask": "is asked about"}.get(
        policy.default, "is allowed, but for private, local and metadata addresses"))  # fmt: skip
    if bounds := list(_bounds(policy.budget, counters)):
        yield from _titled("budget", ", ".join(bounds))
    for accept in policy.accept:
        ports = ", ".join(accept.ports) or "any port"
        yield from _titled("accepts", clean(f"{', '.join(accept.sandboxes)} on {ports}"))


def _bounds(budget: EgressBudget, counters: EgressCounters) -> Iterator[str]:
    """What there is of each, and how much of it is used: "1.2K of 10M out", "2 of 50 connections open"."""
    for way, used, most in (("out", counters.sent_bytes, budget.bytes_out),
                            ("in", counters.received_bytes, budget.bytes_in)):  # fmt: skip
        if most is not None:
            yield f"{render.size(used)} of {render.size(most)} {way}{' (used up)' if used >= most else ''}"
    if budget.connections is not None:
        yield f"{counters.connections_open} of {budget.connections} connections open"
    if budget.connections_per_minute is not None:
        yield f"at most {budget.connections_per_minute} new ones in a minute"
    if budget.bytes_per_second is not None:
        yield f"at most {render.size(budget.bytes_per_second)} a second"


def traffic(counters: EgressCounters) -> str:
    """ "1.2K out, 3.4M in, 12 connections (2 open), 4 refused"."""
    return (
        f"{render.size(counters.sent_bytes)} out, {render.size(counters.received_bytes)} in, "
        f"{counters.connections} connections ({counters.connections_open} open), {counters.denied} refused, "
        f"{counters.failed} failed"
    )


def preset(found: PresetInfo) -> Iterator[str]:
    """What a preset allows, rule by rule."""
    yield from _titled("preset", clean(found.name))
    yield from _titled("for", clean(found.summary))
    for number, rule in enumerate(found.rules):
        yield from _titled("rules" if number == 0 else "", _rule(rule))
    if found.way_out:
        yield from _titled("way out", clean(found.way_out))


def log_line(line: AuditLine, names: dict[str, str] | None, columns: int | None) -> str:
    """One line of the log. `names`: id → name of sandboxes, for those that have one; None: all lines are of one, which
    is not named."""
    who = [] if names is None else [clean(line.sandbox or names.get(line.sandbox_id) or line.sandbox_id)]
    parts = [
        render.clock(line.time), f"{clean(line.verdict):<7}", *who, clean(_place(line)),
        *([clean(_why(line))] if line.rule or line.reason else []),
        *([f"by {clean(line.process)}"] if line.process else []),
        *([f"{render.size(line.sent_bytes)} out {render.size(line.received_bytes)} in"] if _moved(line) else []),
        *([f"and {line.repeated} more"] if line.repeated else []),
    ]  # fmt: skip
    text = "  ".join(parts)
    return text if columns is None else cells.cut(text, columns)


def places(tried: Sequence[Tried]) -> str:
    """ "UDP to ntp.example:123, ping to 192.0.2.1 and 3 more", of what is no TCP."""
    more = len(tried) - MAX_PLACES
    named = (outside_tcp(one.protocol, one.host, one.port) for one in tried[:MAX_PLACES])
    return clean(", ".join(named)) + (f" and {more} more" if more > 0 else "")


def outside_tcp(protocol: str, host: str, port: int) -> str:
    """ "UDP to ntp.example:123"; a host "*" is several."""
    host = "several places" if host == "*" else host
    host = f"[{host}]" if ":" in host else host
    return f"{UNCARRIED.get(protocol, protocol)} to {host}{f':{port}' if port else ''}"


def _place(line: AuditLine) -> str:
    host = f"[{line.host}]" if ":" in line.host else line.host
    if line.method:
        scheme = "https" if line.tls == "inspect" or line.protocol == "tls" else "http"
        port = "" if (scheme, line.port) in (("https", 443), ("http", 80)) else f":{line.port}"
        status = f" {line.status}" if line.status else ""
        return f"{line.method} {scheme}://{host}{port}{line.path}{status}"
    if line.via == "inside":
        return outside_tcp(line.protocol, line.host, line.port)
    if line.host == "*":
        return "several places"
    return f"{host}:{line.port}" if line.port else f"{host} (name)"


def _why(line: AuditLine) -> str:
    if not line.reason or line.reason == line.rule:
        return line.rule
    if line.via == "inside":
        return line.reason
    if line.verdict == "allowed":
        return f"{line.rule}: {line.reason}" if line.rule else line.reason
    # on a terminal a line is cut at its end, so what went wrong comes first
    return line.reason if line.rule in ("", "default") else f"{line.reason}; {line.rule}"


def _moved(line: AuditLine) -> bool:
    return bool(line.sent_bytes or line.received_bytes)


def _rule(rule: EgressRule) -> str:
    said = rule_word(rule)
    said = _in_full(said) if said.startswith("{") else said
    return clean(f"{said}  # {rule.note}" if rule.note else said)


def _in_full(rule: str) -> str:
    """A rule for which there is no short word: "allow: hosts a.example; methods GET, HEAD"."""
    fields: dict[str, object] = json.loads(rule)
    action = fields.pop("action", "allow")
    parts = (f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
             for name, value in fields.items())  # fmt: skip
    return f"{action}: {'; '.join(parts)}"


def secret(found: Secret) -> str:
    """A secret as people write it, without its value."""
    return secret_words(found)


def _programs(transparent: bool) -> str:
    return (
        "all, whether they know of proxies or not"
        if transparent
        else "those that follow HTTP_PROXY and ALL_PROXY: this engine, or this kernel, cannot redirect the others"
    )


def _titled(title: str, text: str) -> Iterator[str]:
    yield f"{title:<{_TITLE}} {text}".rstrip()
