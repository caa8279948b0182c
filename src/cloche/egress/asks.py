"""Questions to people: connections that wait until somebody answers, or until it is too late.

The same question of several connections is asked once. What was answered with "always" holds until the node sends the
policy that says so itself."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from cloche.egress.deciding.attempt import Attempt
from cloche.model.egress import Ask

TIMEOUT_SECONDS = 30.0
MAX_OPEN = 64
MAX_REMEMBERED = 1024

NOWHERE = Attempt(host="", is_address=False, port=0)
#: "again": the policy has changed, and does not ask this any more
Outcome = Literal["once", "always", "deny", "expired", "crowded", "again"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about; equal ones are the same question. `attempt` is what is decided again when the policy
    changes; it makes no difference, and neither does `process`."""

    host: str
    port: int
    method: str = ""
    path: str = ""
    protocol: str = field(default="", compare=False)
    process: str = field(default="", compare=False)
    attempt: Attempt = field(default=NOWHERE, compare=False)


@dataclass(slots=True)
class _Open:
    id: str
    question: Question
    answer: asyncio.Future[Outcome]
    waiting: int = 0


class Asks:
    """Of one sandbox. `tell` gets every new question once."""

    def __init__(self, sandbox_id: str, tell: Callable[[Ask], None], timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._sandbox_id = sandbox_id
        self._tell = tell
        self._timeout_seconds = timeout_seconds
        self._open: dict[Question, _Open] = {}
        self._always: dict[Question, None] = {}

    async def ask(self, question: Question) -> Outcome:
        """Wait for the answer. `expired` and `crowded` (too many questions are open) mean no."""
        if question in self._always:
            return "always"
        asked = self._open.get(question) or self._new(question)
        if asked is None:
            return "crowded"
        asked.waiting += 1
        try:
            return await asyncio.shield(asked.answer)
        finally:
            asked.waiting -= 1
            if not asked.waiting:
                self._close(asked, "expired")

    def answer(self, ask_id: str, outcome: Outcome) -> bool:
        """False: there is no such question any more."""
        for asked in self._open.values():
            if asked.id == ask_id:
                if outcome == "always":
                    self._remember(asked.question)
                self._close(asked, outcome)
                return True
        return False

    def review(self, still_asked: Callable[[Question], bool]) -> None:
        """The policy is another: what it decides by itself is decided again, and nothing is remembered."""
        self._always.clear()
        for asked in list(self._open.values()):
            if not still_asked(asked.question):
                self._close(asked, "again")

    def _new(self, question: Question) -> _Open | None:
        if len(self._open) >= MAX_OPEN:
            return None
        loop = asyncio.get_running_loop()
        asked = _Open(f"ask_{secrets.token_hex(10)}", question, loop.create_future())
        self._open[question] = asked
        timer = loop.call_later(self._timeout_seconds, self._close, asked, "expired")
        asked.answer.add_done_callback(lambda _: timer.cancel())
        self._tell(self._described(asked))
        return asked

    def _close(self, asked: _Open, outcome: Outcome) -> None:
        if self._open.get(asked.question) is asked:
            del self._open[asked.question]
        if not asked.answer.done():
            asked.answer.set_result(outcome)

    def _remember(self, question: Question) -> None:
        if len(self._always) < MAX_REMEMBERED:
            self._always[question] = None

    def _described(self, asked: _Open) -> Ask:
        question = asked.question
        return Ask(
            id=asked.id,
            sandbox_id=self._sandbox_id,
            host=question.host,
            port=question.port,
            protocol=question.protocol,
            method=question.method,
            path=question.path,
            process=question.process,
            expires_at=time.time() + self._timeout_seconds,
        )
