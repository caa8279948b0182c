"""What carrying requests needs from the rest of the door: who decides, who dials, who counts, who is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from cloche.channel.base import ByteStream
from cloche.egress.messages import GivenSecret
from cloche.model.egress import Decision
from cloche.model.egress import Protocol as Spoken

Scheme = Literal["http", "https"]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a connection goes. `host`: a normalised name or a canonical address. "https": the door has ended the
    client's TLS, and speaks TLS to the site too."""

    host: str
    port: int
    scheme: Scheme = "http"

    @property
    def usual_port(self) -> int:
        return 443 if self.scheme == "https" else 80


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A client of the proxy port has asked for a connection (CONNECT). Nothing has been answered yet; `leading`: bytes
    that it sent behind its request."""

    host: str
    port: int
    leading: bytes = b""


class DialError(Exception):
    """The site cannot be reached; the text says why, in words that the code may read. `code`: "denied" when its
    addresses are forbidden, "failed" otherwise."""

    def __init__(self, reason: str, code: Literal["denied", "failed"] = "failed") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class LimitHit(Exception):
    """A budget is used up: the connection ends. `limit` names the field of EgressBudget, or a bound of the door's own:
    "held_bytes", "lookups", "handshakes", "certificates"."""

    def __init__(self, limit: str, reason: str = "") -> None:
        super().__init__(reason or f"the budget {limit} is used up")
        self.limit = limit
        self.reason = str(self)


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and what became of it, for the audit. `verdict` as in AuditLine; bytes are of heads and bodies,
    from the code's side; `status` 0: nobody answered. The path has no query, and no field the value of a secret."""

    site: Site
    method: str = ""
    path: str = ""
    status: int = 0
    verdict: Literal["allowed", "denied", "failed", "limit"] = "allowed"
    decision: Decision | None = None
    reason: str = ""
    sent_bytes: int = 0
    received_bytes: int = 0
    began: float = 0.0
    """Of time.time()."""
    duration_seconds: float = 0.0
    secrets: list[str] = field(default_factory=list)
    """Names of those that were put into the request."""


class Traffic(Protocol):
    """Of one exchange, from the side of who asks; it is told of all that is carried."""

    async def sent(self, count: int) -> None:
        """Before they go on; waits when they come too fast. Raises LimitHit."""

    async def received(self, count: int) -> None:
        """As `sent`."""

    def answered(self, status: int) -> None: ...


class Hooks(Protocol):
    """Of one connection of one sandbox."""

    @property
    def sandbox(self) -> str:
        """Its name, or its id: what the remedy in a refusal names."""

    async def decide(self, host: str, port: int, protocol: Spoken, method: str, path: str) -> Decision:
        """For one request, before a byte of it leaves. Asks people too: the action is "allow" or "deny". `path` is
        without its query, as the code wrote it."""

    async def dial(self, host: str, port: int) -> ByteStream:
        """Plain TCP to an address of the host that was checked. Raises DialError."""

    def secrets(self, host: str) -> list[GivenSecret]:
        """Those that may go to this host."""

    def every_secret(self) -> list[GivenSecret]:
        """All of the sandbox, to see a placeholder that goes where it should not."""

    def record(self, exchange: Exchange) -> None:
        """One line of the audit; once for each request."""

    def happened(self, kind: str, data: dict[str, Any]) -> None:
        """An event: kind "egress_secret", data {"secret", "what": "misused" | "missing" | "redacted", "reason", "host",
        "port", "method", "path"}. The door throttles."""

    def hold(self, count: int) -> None:
        """So many bytes of this connection wait for a decision, or to be whole. Raises LimitHit."""

    def may_hold(self, count: int) -> bool:
        """Whether so many more may."""

    def handshake(self, is_new_name: Callable[[], bool]) -> AbstractAsyncContextManager[None]:
        """Around a TLS handshake that the door ends; it may wait before. `is_new_name`: a certificate has to be made.
        Raises LimitHit."""

    def piece_bytes(self) -> int:
        """How much of a body may be in the door, in each direction: the less, the more connections are open."""

    async def meter(self, sent: int = 0, received: int = 0) -> None:
        """Counts bytes before they go on, and waits when they come too fast. Raises LimitHit."""
