"""One connection of a sandbox, from the wish of its code to its end: decide, look, resolve, check, dial, answer, carry.

What leaves is decided with all that can be known before a byte leaves. Of a program that waits for an answer before it
speaks (SOCKS, CONNECT) the first bytes come late, so its destination is connected first and decided again then."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cloche.egress.connection import OTHER_POLICY, TURNED_AWAY, Connection, Refused, refused_by_limit
from cloche.egress.deciding.attempt import Decided, Undecided
from cloche.egress.first_look import check, first_look
from cloche.egress.hooks import LimitHit, Site
from cloche.egress.http import flow
from cloche.egress.inner.entrance import Entrance
from cloche.egress.judgement import Judgement
from cloche.egress.outward.dial import reason
from cloche.egress.outward.relay import Relay
from cloche.egress.outward.sockets import SocketStream
from cloche.egress.outward.way_out import WayOut
from cloche.egress.passage import Passage
from cloche.egress.sniff import Seen
from cloche.egress.tls.sni import RECORD_TYPES
from cloche.model.egress import AuditLine


class Outlet:
    """`run` carries it to its end, answers the code and writes the audit; it raises CancelledError only."""

    def __init__(self, connection: Connection, entrance: Entrance) -> None:
        self._connection = connection
        self._attached = connection.attached
        self._entrance = entrance
        self._stream = entrance.stream
        self._way_out = WayOut(connection)
        self._judgement = Judgement(connection, self._way_out)
        self._task: asyncio.Task[None] | None = None
        self._carries_requests = False
        self._revoked = ""
        self._relays = False
        self._is_written = False
        self._seen: Seen | None = None

    async def run(self) -> None:
        self._task = asyncio.current_task()
        self._attached.connections.add(self)
        try:
            await self._carried()
        except asyncio.CancelledError:
            self._ended()
            if not self._revoked or self._task is None:
                raise
            self._task.uncancel()
        finally:
            self._attached.connections.discard(self)
            self._connection.held.release()
            self._stream.close_now()

    def review(self) -> None:
        """The policy is another: what it would not allow any more ends now."""
        if not all(self._stays(self._attached.decide(attempt)) for attempt in self._connection.attempts()):
            self._revoke(OTHER_POLICY)

    def review_neighbour(self) -> None:
        if self._way_out.is_turned_away(self._connection.attempt):
            self._revoke(TURNED_AWAY)

    def _revoke(self, why: str) -> None:
        if self._task is not None and not self._revoked:
            self._revoked = why
            self._task.cancel()

    def _stays(self, verdict: Decided | Undecided) -> bool:
        decision = self._connection.decision
        if isinstance(verdict, Undecided):
            # requests are decided one by one, and what is not carried yet will be decided
            is_later = self._carries_requests or decision is None or "request" not in verdict.needs
            return is_later and not self._relays
        if verdict.action == "deny":
            return False
        to_be_seen = verdict.tls == "inspect" and self._connection.attempt.protocol == "tls"
        return not to_be_seen or self._carries_requests or decision is None

    async def _carried(self) -> None:
        try:
            await self._carry()
        except Refused as refused:
            await self._refuse(refused)
        except LimitHit as hit:
            await self._refuse(refused_by_limit(hit))
        except OSError as error:
            # one side has reset what was open: nobody is left to be answered
            self._stream.close_now()
            self._write(self._connection.line("allowed", reason(error)))

    def _ended(self) -> None:
        """By a change of policy, or with the sandbox."""
        if self._revoked:
            decided = self._attached.decide(self._connection.attempt)
            if isinstance(decided, Decided):
                self._connection.decision = decided
            self._write(self._connection.line("revoked", self._revoked))
        elif not self._carries_requests and self._connection.decision is not None:
            self._write(self._connection.line("allowed", "the sandbox has gone"))

    def _write(self, line: AuditLine) -> None:
        """One line for each connection; it may be cut off while its refusal is still being said."""
        if not self._is_written:
            self._is_written = True
            self._attached.write(line)

    async def _refuse(self, refused: Refused) -> None:
        attempt = self._connection.attempt
        self._write(self._connection.line(refused.verdict, refused.reason, refused.rule))
        if self._relays:
            self._stream.close_now()
        else:
            await self._entrance.refuse(refused, attempt.host, attempt.port)

    async def _carry(self) -> None:
        self._stream.counted_by(self._connection.held.hold)
        self._attached.budget.check()
        known = await self._judgement.settle(self._connection.attempt)
        if self._entrance.is_early and isinstance(known, Undecided) and known.needs != {"address"}:
            await self._look()
            known = await self._judgement.settle(self._connection.attempt)
            if self._is_for_requests(known):
                await self._entrance.accept()
                await self._carry_requests(known, None)
                return
        await self._connect()

    async def _connect(self) -> None:
        attempt = self._connection.attempt
        addresses, settled = await self._judgement.addresses(attempt)
        if attempt.protocol is not None:
            # nothing more will be known of it
            self._check(await self._judgement.settle(settled))
        upstream, reached = await self._way_out.connect(settled, addresses)
        self._connection.attempt = reached
        try:
            # the policy may be another by now
            known = await self._judgement.settle(reached)
            await self._entrance.accept()
            if reached.protocol is None:
                await self._wait_for_words(upstream, known)
            else:
                await self._relay(upstream, known)
        finally:
            upstream.close_now()

    async def _wait_for_words(self, upstream: SocketStream, known: Decided | Undecided) -> None:
        """Whoever speaks first shows what it is: a server that greets is neither TLS nor HTTP."""
        if isinstance(known, Undecided) or self._stream.peeked:
            await self._look()
        else:
            speaks = asyncio.ensure_future(self._stream.peek_more())
            try:
                with upstream.watched() as greets:
                    await asyncio.wait((speaks, greets), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                speaks.cancel()
                raise
            if not speaks.done():
                await self._relay_greeting(upstream, speaks)
                return
            if speaks.result():
                await self._look()
        known = await self._judgement.settle(self._connection.attempt)
        if self._is_for_requests(known):
            await self._carry_requests(known, upstream)
        else:
            await self._relay(upstream, known)

    def _is_for_requests(self, known: Decided | Undecided) -> bool:
        protocol = self._connection.attempt.protocol
        return protocol == "http" or (protocol == "tls" and known.tls == "inspect")

    async def _look(self) -> None:
        """Raises Refused."""
        seen = await first_look(self._stream, self._connection)
        if seen is not None:
            sni = seen.hello.sni if seen.hello is not None else None
            self._connection.attempt = replace(self._connection.attempt, protocol=seen.protocol, sni=sni)
            self._seen = seen

    async def _relay(self, upstream: SocketStream, known: Decided | Undecided) -> None:
        self._check(known)
        self._relays = True
        relay = Relay(self._stream.socket, upstream.socket, self._connection)
        await relay.run(self._stream.take_peeked(), upstream.take_peeked())
        self._write(self._connection.line("allowed"))

    async def _relay_greeting(self, upstream: SocketStream, speaks: asyncio.Task[bool]) -> None:
        """The other side has spoken first; what the code says is looked at all the same, whenever it comes."""
        try:
            # the policy may have changed while nobody spoke
            self._connection.attempt = replace(self._connection.attempt, protocol="tcp")
            self._check(await self._judgement.settle(self._connection.attempt))
        except BaseException:
            speaks.cancel()
            await asyncio.wait((speaks,))
            raise
        self._relays = True
        relay = Relay(self._stream.socket, upstream.socket, self._connection)
        await relay.run_looking(self._late_words(speaks), upstream.take_peeked())
        self._write(self._connection.line("allowed"))

    async def _late_words(self, speaks: asyncio.Task[bool]) -> bytes:
        if await speaks and self._stream.peeked[0] in RECORD_TYPES:
            await self._look()
            known = await self._judgement.settle(self._connection.attempt)
            if self._is_for_requests(known):
                raise Refused("denied", "TLS that begins late cannot be inspected", self._connection.decision)
            self._check(known)
        return self._stream.take_peeked()

    def _check(self, known: Decided | Undecided) -> None:
        check(self._connection, known, self._seen)

    async def _carry_requests(self, known: Decided | Undecided, spare: SocketStream | None) -> None:
        attempt = self._connection.attempt
        self._carries_requests = True
        passage = Passage(self._connection, self._way_out, spare)
        first = self._stream.take_peeked()
        try:
            if attempt.protocol == "http":
                await flow.serve_requests(self._stream, Site(attempt.host, attempt.port), passage, first)
            else:
                site = Site(attempt.host, attempt.port, "https")
                await self._attached.world.inspector().inspect_tls(self._stream, site, passage, first)
        finally:
            passage.close()
