"""What carrying requests needs of the door (`hooks.Hooks`), for one connection of one sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from cloche.channel.base import ByteStream
from cloche.egress.connection import Connection, Refused
from cloche.egress.deciding import names
from cloche.egress.deciding.attempt import Attempt, Decided, Undecided
from cloche.egress.hooks import DialError, Exchange
from cloche.egress.judgement import Judgement
from cloche.egress.messages import GivenSecret
from cloche.egress.outward.sockets import SocketStream
from cloche.egress.outward.way_out import WayOut, at
from cloche.model.egress import Decision, Protocol


class Passage:
    """`spare`: a connection to the destination that was made before it was known to carry requests."""

    def __init__(self, connection: Connection, way_out: WayOut, spare: SocketStream | None = None) -> None:
        self._connection = connection
        self._attached = connection.attached
        self._way_out = way_out
        self._judgement = Judgement(connection, way_out)
        self._spare = spare
        self.requests = 0

    @property
    def sandbox(self) -> str:
        return self._attached.called

    async def decide(self, host: str, port: int, protocol: Protocol, method: str, path: str) -> Decision:
        try:
            attempt = _attempt(host, port, protocol, method, path)
        except ValueError as error:
            return Decided(action="deny", rule="bad name", reason=str(error))
        try:
            return await self._decided(attempt)
        except Refused as refused:
            return Decided(action="deny", rule=refused.rule, reason=refused.reason, remedy=refused.remedy)

    async def _decided(self, attempt: Attempt) -> Decision:
        known = self._connection.attempt
        if known.address is not None and (known.host, known.port) == (attempt.host, attempt.port):
            # where the connection leads that this one may use again
            attempt = at(attempt, known.address)
        verdict = await self._judgement.settle(attempt)
        if attempt.address is None:
            attempt, verdict = await self._with_address(attempt)
        if isinstance(verdict, Undecided):
            return Decided(action="deny", rule="undecided", reason="what the rule asks for is not known here")
        self._connection.attempt = attempt
        self._connection.meanings.add((attempt.method or "", attempt.path or ""))
        return verdict if verdict.action == "allow" else _allowed(verdict)

    async def _with_address(self, attempt: Attempt) -> tuple[Attempt, Decided | Undecided]:
        """A name that does not exist is allowed all the same; dialling says so. Raises Refused."""
        try:
            _, settled = await self._judgement.addresses(attempt)
        except Refused as refused:
            if refused.verdict == "denied":
                raise
            # by the policy of now: looking it up took a while
            return attempt, await self._judgement.settle(attempt)
        return replace(settled, address=None), await self._judgement.settle(settled)

    async def dial(self, host: str, port: int) -> ByteStream:
        spare, self._spare = self._spare, None
        attempt = self._connection.attempt
        if (host, port) != (attempt.host, attempt.port):
            raise DialError("it was not decided", "denied")
        if spare is not None:
            return spare
        try:
            addresses, settled = await self._judgement.addresses(attempt)
            stream, reached = await self._way_out.connect(settled, addresses)
            await self._check_again(reached, stream)
        except Refused as refused:
            raise DialError(refused.reason, "denied" if refused.verdict == "denied" else "failed") from refused
        return stream

    async def _check_again(self, reached: Attempt, stream: SocketStream) -> None:
        """The policy may have changed while it was dialled, when a review did not know the address. Closes the stream
        when it raises Refused."""
        self._connection.attempt = reached
        try:
            if isinstance(await self._judgement.settle(reached), Undecided):
                raise Refused("denied", "what the rule asks for is not known here", self._connection.decision)
        except BaseException:
            stream.close_now()
            raise

    def secrets(self, host: str) -> list[GivenSecret]:
        return self._attached.secrets_for(host)

    def every_secret(self) -> list[GivenSecret]:
        return self._attached.secrets

    def record(self, exchange: Exchange) -> None:
        self.requests += 1
        self._connection.meanings.clear()
        self._attached.write(self._connection.request_line(exchange))

    def happened(self, kind: str, data: dict[str, Any]) -> None:
        self._attached.happened(kind, data)

    def hold(self, count: int) -> None:
        self._connection.held.hold(count)

    def may_hold(self, count: int) -> bool:
        return self._attached.held.has_room(count)

    def handshake(self, is_new_name: Callable[[], bool]) -> AbstractAsyncContextManager[None]:
        return self._attached.handshakes.one(is_new_name)

    def piece_bytes(self) -> int:
        return self._attached.budget.piece_bytes()

    async def meter(self, sent: int = 0, received: int = 0) -> None:
        budget = self._attached.budget
        for count, sending in ((sent, True), (received, False)):
            if count:
                budget.spend(count, sending=sending)
                self._connection.counted(count, sending=sending)
        if (wait := budget.debt()) > 0:
            await asyncio.sleep(wait)

    def close(self) -> None:
        if self._spare is not None:
            self._spare.close_now()


def _attempt(host: str, port: int, protocol: Protocol, method: str, path: str) -> Attempt:
    """Raises ValueError."""
    read = names.read_host(host)
    return Attempt(
        host=read.text,
        is_address=read.is_address,
        port=port,
        address=read.text if read.is_address else None,
        protocol=protocol,
        method=method,
        path=path,
    )


def _allowed(asked: Decided) -> Decided:
    """People have said yes."""
    return Decided(
        action="allow",
        rule=asked.rule,
        reason=asked.reason,
        tls=asked.tls,
        opened=asked.opened,
        encrypted_hello=asked.encrypted_hello,
        secret_host=asked.secret_host,
    )
