"""Names that the sandbox's DNS stub asks for. Only what the policy could let it reach is looked up at all: a question
to a DNS server is a way out, too."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from cloche.egress.deciding import names
from cloche.egress.hooks import DialError, LimitHit
from cloche.egress.inner import guest_words
from cloche.egress.inner.attached import Attached
from cloche.egress.inner.guest_words import FromGuest, Named, Query, Resolve
from cloche.egress.outward.resolve import ResolveError
from cloche.egress.outward.way_out import NEIGHBOURS
from cloche.model.egress import AuditLine

#: open at once; more wait in the guest's socket
MAX_OPEN = 256
#: with records, made or said at once: each is up to 64 KiB, and the guest may not read
MAX_ANSWERS = 16
NAME_SECONDS = 5.0

log = logging.getLogger(__name__)

Say = Callable[[guest_words.Resolved | guest_words.Answer | guest_words.Name], Awaitable[None]]


class Questions:
    """Of one guest, in both directions."""

    def __init__(self, attached: Attached, say: Say) -> None:
        self._attached = attached
        self._say = say
        self._slots = asyncio.Semaphore(MAX_OPEN)
        self._answering = asyncio.Semaphore(MAX_ANSWERS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[int, asyncio.Future[str | None]] = {}
        self._next = 0

    async def heard(self, word: FromGuest) -> None:
        """Waits while too many are open."""
        if isinstance(word, Named):
            asked = self._asked.get(word.id)
            if asked is not None and not asked.done():
                asked.set_result(word.name)
        elif isinstance(word, Resolve | Query):
            await self._slots.acquire()
            task = asyncio.ensure_future(self._answer(word))
            self._tasks.add(task)
            task.add_done_callback(self._answered)

    async def name_of(self, address: str) -> str | None:
        """The name that the guest gave this address to; None when it gave it to none, or does not say."""
        if len(self._asked) >= MAX_OPEN:
            return None
        self._next += 1
        asked: asyncio.Future[str | None]
        asked = self._asked[self._next] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(NAME_SECONDS):
                await self._say(guest_words.Name(id=self._next, address=address))
                return await asked
        except (TimeoutError, ConnectionError):
            return None
        finally:
            self._asked = {key: value for key, value in self._asked.items() if value is not asked}

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception() is not None:
            log.error("a question of a guest failed in the door", exc_info=task.exception())

    async def _answer(self, word: Resolve | Query) -> None:
        try:
            if isinstance(word, Resolve):
                await self._say(guest_words.Resolved(id=word.id, verdict=await self._resolve(word.name)))
            else:
                async with self._answering:
                    await self._say(guest_words.Answer(id=word.id, message=await self._query(word.message)))
        except (ConnectionError, ValueError) as error:
            log.debug("a question is not answered: %s", error)

    async def _resolve(self, text: str) -> Literal["yes", "no", "fail"]:
        try:
            name = names.normalise(text)
        except ValueError:
            return "no"
        if not self._attached.may_resolve(name):
            self._write(name, "denied", "no rule allows this name")
            return "no"
        if name.endswith(NEIGHBOURS):
            neighbour = self._attached.world.neighbours(self._attached.project, name.removesuffix(NEIGHBOURS))
            return "yes" if neighbour is not None else self._absent(name, "no sandbox has this name")
        if self._is_behind_proxy(name) or not self._attached.may_look_up(name):
            # a connection to it is decided first, and looks it up then
            return "yes"
        return await self._look_up(name)

    async def _look_up(self, name: str) -> Literal["yes", "no", "fail"]:
        try:
            async with self._attached.looking_up():
                if not self._attached.may_look_up(name):
                    # not any more: it has waited
                    return "no"
                found = await self._attached.world.resolver.addresses(name, self._attached.id)
                return "yes" if found else self._absent(name, "there is no such name")
        except ResolveError as error:
            self._write(name, "failed", str(error))
        except LimitHit as hit:
            self._write(name, "limit", hit.reason, f"budget {hit.limit}")
        return "fail"

    def _absent(self, name: str, reason: str) -> Literal["no"]:
        """For the code it is as if it were denied, so somebody has to say that it is not."""
        self._write(name, "failed", reason)
        return "no"

    def _is_behind_proxy(self, name: str) -> bool:
        """Then the proxy knows it, and perhaps nobody here."""
        try:
            return self._attached.world.proxies.proxy_for(name, 443, "tls") is not None
        except DialError:
            return False

    async def _query(self, message: bytes) -> bytes:
        """Raises ValueError for what is no query: nobody waits for an answer to that."""
        from cloche.egress.outward import dnswire

        query = dnswire.parse_query(message)
        try:
            name = names.normalise(query.name)
        except ValueError:
            return dnswire.refuse(query)
        if not self._attached.may_resolve(name):
            # names of addresses are asked for by programs that print them, and lead nowhere
            if not name.endswith(".arpa"):
                self._write(name, "denied", f"no rule allows this name ({query.kind})")
            return dnswire.refuse(query)
        if not query.is_carried:
            return dnswire.refuse(query, "NOERROR")
        if not self._attached.may_look_up(name):
            self._write(name, "denied", f"only connections to this name can be allowed ({query.kind})")
            return dnswire.refuse(query, "REFUSED")
        try:
            async with self._attached.looking_up():
                if not self._attached.may_look_up(name):
                    return dnswire.refuse(query)
                return await self._attached.world.resolver.query(query)
        except ResolveError:
            pass
        except LimitHit as hit:
            self._write(name, "limit", hit.reason, f"budget {hit.limit}")
        return dnswire.refuse(query, "SERVFAIL")

    def _write(self, name: str, verdict: str, reason: str, rule: str = "") -> None:
        attached = self._attached
        attached.write(
            AuditLine(
                time=time.time(),
                sandbox_id=attached.id,
                sandbox=attached.name,
                via="dns",
                verdict=verdict,
                host=name,
                rule=rule,
                reason=reason,
            )
        )
