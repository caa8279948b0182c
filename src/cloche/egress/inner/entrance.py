"""How one connection came in, and how its code is answered: by the guest, or in the words of the proxy port.

A refusal should be read by people: where the first bytes are HTTP's or TLS's, it is said in that protocol."""

from __future__ import annotations

import asyncio
from typing import Literal

from cloche.egress.connection import Refused
from cloche.egress.http import refusal
from cloche.egress.inner import guest_words
from cloche.egress.outward.sockets import SocketStream
from cloche.egress.sniff import BadHelloError, NeedMore, first_bytes
from cloche.model.egress import Protocol

#: how long a refusal waits for the first bytes, to be said in their protocol
FIRST_BYTES_SECONDS = 0.3
_DRAIN_BYTES = 256 << 10
_DRAIN_SECONDS = 1.0
_WRITE_SECONDS = 10.0

Via = Literal["redirect", "socks", "proxy"]


class Entrance:
    """`via` "proxy": a CONNECT that nobody has answered yet. `is_early`: the code believes to be connected, and its
    bytes come before it is answered."""

    def __init__(self, stream: SocketStream, via: Via, sandbox: str) -> None:
        self.stream = stream
        self.via = via
        self.is_early = via == "redirect"
        self._sandbox = sandbox
        self._accepted = False

    async def accept(self) -> None:
        """Raises ConnectionError."""
        if self._accepted:
            return
        self._accepted = True
        yes = refusal.connected() if self.via == "proxy" else guest_words.framed({"ok": True})
        await self.stream.write(yes)

    async def refuse(self, refused: Refused, host: str, port: int) -> None:
        """Say so as it can be read, and close."""
        self.stream.uncounted()
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                await self._refuse(refused, host, port)
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self.stream.close_now()

    async def _refuse(self, refused: Refused, host: str, port: int) -> None:
        if self.via == "proxy" and not self._accepted:
            await self._say(self._page(refused, host, port))
            return
        protocol = await self._protocol() if self._accepted or self.is_early else "tcp"
        if protocol == "tcp":
            await self._refuse_silently(refused)
            return
        await self.accept()
        alert: refusal.Alert = "access_denied" if refused.verdict == "denied" else "internal_error"
        await self._say(self._page(refused, host, port) if protocol == "http" else refusal.tls_alert(alert))

    async def _refuse_silently(self, refused: Refused) -> None:
        if not self._accepted:
            code = {"denied": "denied", "limit": "limit"}.get(refused.verdict, "failed")
            await self.stream.write(guest_words.framed({"ok": False, "code": code, "message": refused.reason[:500]}))

    async def _say(self, data: bytes) -> None:
        await self.stream.write(data)
        await self.stream.drain(_DRAIN_BYTES, _DRAIN_SECONDS)

    async def _protocol(self) -> Protocol:
        """ "tcp" where nothing better is known by now."""
        try:
            if not self.stream.peeked:
                async with asyncio.timeout(FIRST_BYTES_SECONDS):
                    await self.stream.peek_more()
            seen = first_bytes(self.stream.peeked)
        except BadHelloError:
            return "tls"
        except TimeoutError:
            return "tcp"
        if isinstance(seen, NeedMore):
            return "tls" if self.stream.peeked[:1] == b"\x16" else "tcp"
        return seen.protocol

    def _page(self, refused: Refused, host: str, port: int) -> bytes:
        if refused.verdict == "denied":
            remedy = refusal.allowing(self._sandbox, refused.remedy)
            return refusal.forbidden(host, port, rule=refused.rule, message=refused.reason, remedy=remedy)
        if refused.verdict == "limit":
            return refusal.limited(refused.rule.removeprefix("budget "), refused.reason)
        return refusal.answer(502, "egress_failed", f"{host}:{port}: {refused.reason}")
