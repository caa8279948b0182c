"""Calls of the guest's wire for its inner end of the door: whether it is open, and what was tried in vain."""

from __future__ import annotations

import msgspec

from cloche.guest_api import bounds
from cloche.guest_api.transport import Transport

MAX_ATTEMPTS = 256
MAX_HOST_CHARS = 253
PROTOCOLS = frozenset({"tcp", "dns", "udp", "icmp", "other"})


class EgressSetup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`mode`: "open" or "closed". `proxy_env`: processes to come get the proxy variables. `authority_pem`: a
    certificate that they are to trust. `placeholders`: environment variables that stand for secrets."""

    mode: str
    proxy_env: bool = False
    authority_pem: str | None = None
    placeholders: dict[str, str] = {}


class EgressAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """What code tried to reach while its sandbox was closed. `protocol`: "tcp", "udp", or without a port "dns" (a name
    was asked for), "icmp" or "other"; `host` "*": several of those. `last`: UTC seconds."""

    host: str
    port: int = 0
    protocol: str = "tcp"
    count: int = 1
    last: float = 0.0


class _Attempts(msgspec.Struct, frozen=True, kw_only=True):
    attempts: list[EgressAttempt]


class EgressCalls(Transport):
    async def configure_egress(self, setup: EgressSetup) -> None:
        """Open or close the inner end; again is no error."""
        await self._call("PUT", b"/v1/egress", setup)

    async def egress_attempts(self) -> list[EgressAttempt]:
        """At most the newest 256. Raises GuestError for what is out of bounds."""
        found = (await self._ask(_Attempts, "GET", b"/v1/egress/attempts")).attempts
        bounds.require(len(found) <= MAX_ATTEMPTS, "attempts")
        return [_checked(attempt) for attempt in found]


def _checked(attempt: EgressAttempt) -> EgressAttempt:
    bounds.require(0 < len(attempt.host) <= MAX_HOST_CHARS, "host of an attempt")
    bounds.require(0 <= attempt.port <= 65535, "port of an attempt")
    bounds.require(attempt.protocol in PROTOCOLS, "protocol of an attempt")
    bounds.require(0 <= attempt.count <= bounds.MAX_INTEGER, "count of an attempt")
    bounds.require(0 <= attempt.last <= bounds.MAX_TIME, "time of an attempt")
    return attempt
