"""One sandbox as the door knows it: its policy, what it may still move, and its connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol

import msgspec

from cloche.egress.asks import Asks, Question
from cloche.egress.auditing.news import EventPace, SameAgain
from cloche.egress.budget import Budget
from cloche.egress.deciding.attempt import Attempt, Decided, Undecided
from cloche.egress.deciding.hostindex import HostIndex
from cloche.egress.deciding.policy import Compiled, compile_policy
from cloche.egress.hardened import connections_of_one
from cloche.egress.held import Held
from cloche.egress.hooks import LimitHit
from cloche.egress.messages import Attach, Counted, GivenSecret, Happened
from cloche.egress.tls.handshakes import Handshakes
from cloche.egress.world import World
from cloche.model.egress import AcceptRule, Ask, AuditLine, EgressBudget, EgressCounters, EgressPolicy

COUNT_SECONDS = 1.0
#: of the guest's inner end: who connects there goes out under this sandbox's policy (guest/internal/door/listeners.go)
DOOR_PORTS = frozenset({53, 15001, 15080, 15081})
#: names are looked up for one sandbox at a time
MAX_LOOKUPS = 8
LOOKUP_WAIT_SECONDS = 10.0


class Open(Protocol):
    """A connection of this sandbox."""

    def review(self) -> None:
        """The policy is another."""

    def review_neighbour(self) -> None:
        """Another sandbox accepts others than before."""


class Attached:
    """`compiled` None: closed, everything is denied. Raises InvalidError for a policy that cannot be compiled."""

    def __init__(self, attach: Attach, world: World) -> None:
        self.id = attach.sandbox_id
        self.name = attach.name
        self.project = attach.project_id
        self.world = world
        self.lookups = asyncio.Semaphore(MAX_LOOKUPS)
        self.connections: set[Open] = set()
        self.held = Held()
        self.handshakes = Handshakes()
        self.asks = Asks(self.id, self._tell_ask)
        self.compiled: Compiled | None = None
        self._same = SameAgain()
        self._pace = EventPace()
        self._accept: list[AcceptRule] = []
        self.secrets: list[GivenSecret] = []
        self._secret_hosts = HostIndex()
        self._counting: asyncio.TimerHandle | None = None
        self._connections = self._denied = self._failed = 0
        self.budget = Budget(EgressBudget(), attach.counters, most_connections=connections_of_one())
        self.set_policy(attach.policy, attach.secrets)

    @property
    def called(self) -> str:
        """As people name it."""
        return self.name or self.id

    @contextlib.asynccontextmanager
    async def looking_up(self) -> AsyncIterator[None]:
        """One of its lookups. Raises LimitHit when there is no room for it in time."""
        try:
            async with asyncio.timeout(LOOKUP_WAIT_SECONDS):
                await self.lookups.acquire()
        except TimeoutError as error:
            raise LimitHit("lookups", f"{MAX_LOOKUPS} names are being looked up for it already") from error
        try:
            yield
        finally:
            self.lookups.release()

    def set_policy(self, policy: EgressPolicy | None, secrets: list[GivenSecret]) -> None:
        """For what is open, too."""
        only = [given.secret for given in secrets]
        self.compiled = None if policy is None else compile_policy(policy, only, own=self.world.own)
        self.secrets = list(secrets)
        self._secret_hosts = HostIndex()
        for index, given in enumerate(secrets):
            for host in given.secret.hosts:
                self._secret_hosts.add(host, index)
        self._accept = [] if policy is None else list(policy.accept)
        self.budget.limit(EgressBudget() if policy is None else policy.budget)
        self.asks.review(self._still_asked)
        for connection in list(self.connections):
            connection.review()

    def decide(self, attempt: Attempt) -> Decided | Undecided:
        if self.compiled is None:
            return Decided(action="deny", rule="closed", reason="this sandbox has no egress policy")
        return self.compiled.decide(attempt)

    def may_resolve(self, name: str) -> bool:
        return self.compiled is not None and self.compiled.may_resolve(name)

    def may_look_up(self, name: str) -> bool:
        return self.compiled is not None and self.compiled.may_look_up(name)

    def secrets_for(self, host: str) -> list[GivenSecret]:
        """Those that may go to this host."""
        return [self.secrets[index] for index in sorted(self._secret_hosts.find(host))]

    def accepts(self, sandbox: str | None, port: int) -> bool:
        """Whether another sandbox of this name may connect to this one."""
        return port not in DOOR_PORTS and any(_accepts(rule, sandbox, port) for rule in self._accept)

    def begin(self) -> None:
        """A connection; `end` when it is over. Raises LimitHit."""
        self.budget.connect()
        self._connections += 1
        self.changed()

    def end(self) -> None:
        self.budget.disconnect()
        self.changed()

    def write(self, line: AuditLine) -> None:
        """To the audit, and as an event when it was not allowed."""
        self._denied += (line.verdict == "denied") * (1 + line.repeated)
        self._failed += line.verdict == "failed"
        self.log(line)
        self.changed()
        kind = {"denied": "egress_denied", "limit": "egress_limit", "revoked": "egress_revoked"}.get(line.verdict)
        if kind is not None:
            self.happened(kind, _event_of(line))

    def log(self, line: AuditLine) -> None:
        """To the audit alone."""
        own = line if line.project_id == self.project else msgspec.structs.replace(line, project_id=self.project)
        self.world.audit.write(own)

    def happened(self, kind: str, data: dict[str, Any]) -> None:
        """Tell the node, unless the same was told a moment ago."""
        key = (kind, data.get("host"), data.get("port"), data.get("rule"), data.get("limit"), data.get("secret"))
        if self._same.is_new(key) and self._pace.admits() and self.world.pace.admits():
            self.world.tell(Happened(sandbox_id=self.id, kind=kind, data=data))

    def counters(self) -> EgressCounters:
        return EgressCounters(
            sent_bytes=self.budget.sent,
            received_bytes=self.budget.received,
            connections_open=self.budget.open,
            connections=self._connections,
            denied=self._denied,
            failed=self._failed,
        )

    def changed(self) -> None:
        """Counters have moved: the node is told soon, and not more often than it wants."""
        if self._counting is None:
            self._counting = asyncio.get_running_loop().call_later(COUNT_SECONDS, self._tell_counters)

    def close(self) -> None:
        """Nobody is told any more."""
        if self._counting is not None:
            self._counting.cancel()

    def _tell_counters(self) -> None:
        self._counting = None
        self.world.tell(Counted(sandbox_id=self.id, counters=self.counters()))

    def _tell_ask(self, ask: Ask) -> None:
        self.world.tell(Happened(sandbox_id=self.id, kind="egress_ask", data=msgspec.to_builtins(ask)))

    def _still_asked(self, question: Question) -> bool:
        verdict = self.decide(question.attempt)
        return isinstance(verdict, Decided) and verdict.action == "ask"


def _accepts(rule: AcceptRule, sandbox: str | None, port: int) -> bool:
    known = "*" in rule.sandboxes or (sandbox is not None and sandbox in rule.sandboxes)
    return known and (not rule.ports or _within(rule.ports, port))


def _within(ports: Iterable[str], port: int) -> bool:
    for text in ports:
        first, _, last = text.partition("-")
        if int(first) <= port <= int(last or first):
            return True
    return False


def _event_of(line: AuditLine) -> dict[str, Any]:
    shown = ("host", "port", "rule", "reason", "protocol", "method", "path", "process", "via")
    data = {field: value for field in shown if (value := getattr(line, field))}
    return data | {"limit": line.rule.removeprefix("budget ")} if line.verdict == "limit" else data
