"""What is known of one connection, what it has moved, and how it is written down when it is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cloche.egress.deciding.attempt import Attempt, Decided
from cloche.egress.deciding.policy import remedy_words
from cloche.egress.held import Share
from cloche.egress.hooks import Exchange, LimitHit
from cloche.egress.inner.attached import Attached
from cloche.model.egress import AuditLine, Decision

#: why a connection that was allowed has ended
OTHER_POLICY = "a change of the policy ended it"
TURNED_AWAY = "the other sandbox does not accept it any more, or has gone"


class Refused(Exception):
    """It is not carried (any further). `verdict`: "denied", "failed" or "limit", as in AuditLine. `remedy`: as in
    Decision."""

    def __init__(self, verdict: str, reason: str, decision: Decision | None = None, remedy: str = "") -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason
        self.rule = "" if decision is None else decision.rule
        self.remedy = remedy


def refused_by_limit(hit: LimitHit) -> Refused:
    refused = Refused("limit", str(hit))
    refused.rule = f"budget {hit.limit}"
    return refused


#: rule, host, port, and for a rule about requests method and path
Grant = tuple[str, str, int, str, str]


@dataclass(slots=True, eq=False)
class Connection:
    """`attempt` grows as more is known; `decision`: the last that was made. `granted`: what people have said yes
    to on this connection. A relay's meter, too."""

    attached: Attached
    via: str
    attempt: Attempt
    pid: int = 0
    process: str = ""
    decision: Decided | None = None
    granted: set[Grant] = field(default_factory=set)
    meanings: set[tuple[str, str]] = field(default_factory=set)
    """Methods and paths of the request that is carried now: sites may take it for any of them."""
    sent: int = 0
    received: int = 0
    began: float = field(default_factory=time.time)
    held: Share = field(init=False)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.held = Share(self.attached.held)

    def attempts(self) -> Iterator[Attempt]:
        """All that a change of the policy may deny."""
        yield self.attempt
        for method, path in self.meanings - {(self.attempt.method, self.attempt.path)}:
            yield replace(self.attempt, method=method, path=path)

    def room(self, wanted: int, *, sending: bool) -> int:
        return self.attached.budget.room(wanted, sending=sending)

    def spend(self, count: int, *, sending: bool) -> None:
        self.attached.budget.spend(count, sending=sending)
        self.counted(count, sending=sending)

    def took(self, count: int, *, sending: bool) -> None:
        self.attached.budget.took(count, sending=sending)
        self.counted(count, sending=sending)

    def counted(self, count: int, *, sending: bool) -> None:
        self.attached.changed()
        if sending:
            self.sent += count
        else:
            self.received += count

    def delay(self) -> float:
        return self.attached.budget.delay()

    def denied(self, attempt: Attempt, decision: Decided, reason: str = "") -> Refused:
        """By the policy, which another word in it would make allow the attempt."""
        remedy = remedy_words(attempt, self.attached.world.own)
        return Refused("denied", reason or decision.reason, decision, remedy or "")

    def line(self, verdict: str, reason: str = "", rule: str = "") -> AuditLine:
        attempt, decision = self.attempt, self.decision
        return AuditLine(
            time=self.began,
            sandbox_id=self.attached.id,
            sandbox=self.attached.name,
            via=self.via,
            verdict=verdict,
            host=attempt.host,
            port=attempt.port,
            rule=rule or ("" if decision is None else decision.rule),
            reason=reason or ("" if decision is None else decision.reason),
            protocol=attempt.protocol or "",
            tls=decision.tls if decision is not None and attempt.protocol == "tls" else "",
            sni=attempt.sni if attempt.sni and attempt.sni != attempt.host else "",
            address=attempt.address if attempt.address and not attempt.is_address else "",
            process=self.process,
            pid=self.pid,
            sent_bytes=self.sent,
            received_bytes=self.received,
            duration_seconds=round(time.monotonic() - self._started, 6),
        )

    def _is_to_name(self, host: str) -> bool:
        """A client of the proxy port changes hosts; `attempt` may still be of the request before."""
        return host == self.attempt.host and not self.attempt.is_address

    def request_line(self, exchange: Exchange) -> AuditLine:
        """Of one request on it."""
        site, decision = exchange.site, exchange.decision
        return AuditLine(
            time=exchange.began,
            sandbox_id=self.attached.id,
            sandbox=self.attached.name,
            via=self.via,
            verdict=exchange.verdict,
            host=site.host,
            port=site.port,
            rule="" if decision is None else decision.rule,
            reason=exchange.reason or ("" if decision is None else decision.reason),
            protocol="tls" if site.scheme == "https" else "http",
            tls="inspect" if site.scheme == "https" else "",
            address=self.attempt.address or "" if self._is_to_name(site.host) else "",
            method=exchange.method,
            path=exchange.path,
            status=exchange.status,
            process=self.process,
            pid=self.pid,
            sent_bytes=exchange.sent_bytes,
            received_bytes=exchange.received_bytes,
            duration_seconds=round(exchange.duration_seconds, 6),
        )
