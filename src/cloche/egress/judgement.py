"""Decides one connection as more of it becomes known, and asks people where the policy says so."""

from __future__ import annotations

from cloche.egress.asks import Question
from cloche.egress.connection import Connection, Grant, Refused
from cloche.egress.deciding.attempt import Attempt, Decided, Undecided
from cloche.egress.outward.way_out import WayOut, at

_NO = {
    "deny": "somebody was asked and said no",
    "expired": "nobody has allowed it in time",
    "crowded": "too many questions are open already",
}


class Judgement:
    """Of one connection. What it returns is allowed, or cannot be said yet."""

    def __init__(self, connection: Connection, way_out: WayOut) -> None:
        self._connection = connection
        self._attached = connection.attached
        self._way_out = way_out

    async def settle(self, attempt: Attempt) -> Decided | Undecided:
        """By the policy of this moment. Waits for people. Raises Refused."""
        while True:
            verdict = self._attached.decide(attempt)
            if isinstance(verdict, Undecided):
                return verdict
            self._connection.decision = verdict
            if verdict.action == "deny":
                raise self._connection.denied(attempt, verdict)
            if verdict.action == "allow" or _grant(attempt, verdict) in self._connection.granted:
                return verdict
            await self._ask(attempt, verdict)

    async def addresses(self, attempt: Attempt) -> tuple[list[str], Attempt]:
        """Those to dial, and the attempt with the first of them; people are asked before. Empty where somebody else
        looks the name up. Raises Refused."""
        if self._way_out.is_neighbour(attempt) or (
            not attempt.is_address and self._way_out.goes_through_proxy(attempt)
        ):
            return [], attempt
        candidates = await self._way_out.candidates(attempt)
        settled = at(attempt, candidates[0][0])
        await self.settle(settled)
        # an answer of people, or a new policy, may have come meanwhile
        addresses = [address for address, _ in candidates if self._is_open(at(attempt, address))]
        if not addresses:
            raise Refused("denied", "its address is denied", self._connection.decision)
        return addresses, settled

    def _is_open(self, attempt: Attempt) -> bool:
        verdict = self._attached.decide(attempt)
        if isinstance(verdict, Undecided):
            return True
        granted = self._connection.granted
        return verdict.action == "allow" or (verdict.action == "ask" and _grant(attempt, verdict) in granted)

    async def _ask(self, attempt: Attempt, verdict: Decided) -> None:
        question = Question(
            host=attempt.host,
            port=attempt.port,
            method=attempt.method or "",
            path=attempt.path or "",
            protocol=attempt.protocol or "",
            process=self._connection.process,
            attempt=attempt,
        )
        outcome = await self._attached.asks.ask(question)
        if outcome in ("once", "always"):
            self._connection.granted.add(_grant(attempt, verdict))
        elif outcome != "again":
            raise self._connection.denied(attempt, verdict, _NO[outcome])


def _grant(attempt: Attempt, verdict: Decided) -> Grant:
    """A client of the proxy port changes hosts on one connection, and one rule may be about many requests."""
    request = (attempt.method or "", attempt.path or "") if verdict.is_of_request else ("", "")
    return (verdict.rule, attempt.host, attempt.port, *request)
