"""Which ports of which sandboxes this machine can reach, and under which names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cloche.egress.hooks import Site
from cloche.egress.inner.guest_streams import Connect, GuestRefusedError, to_port
from cloche.egress.outward.sockets import SocketStream
from cloche.model.egress import AuditLine

#: browsers resolve every name below it to this machine, and no page of another machine can be served under it
SUFFIX = ".localhost"
#: how long a guest may take to connect to a port inside; a paused one never answers
DIAL_SECONDS = 5.0
#: names of sandboxes that have gone are known for a while, so that a page can say so
MAX_GONE = 1024

#: the way to the guest of a sandbox; None: the door does not have that sandbox
Streams = Callable[[str], Connect | None]

_REASONS = {
    "": "",
    "gone": "the sandbox does not run",
    "silent": "the sandbox does not answer",
    "closed": "nothing listens on that port",
    "host": "the request was for a host that is not this machine",
}
_VERDICTS = {"": "allowed", "host": "denied"}


class UnreachableError(Exception):
    """`why`: "gone" (the sandbox does not run), "silent" (it does not answer, perhaps it is paused), "closed" (nothing
    listens on that port inside)."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class OtherHostError(OSError):
    """The client has asked for a host that is not this machine, and was told so."""


@dataclass(slots=True, eq=False)
class Entry:
    """One published port, and the connections that use it now. `any_host`: its own address takes requests for whatever
    host."""

    sandbox_id: str
    port: int
    slug: str
    any_host: bool = False
    users: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def site(self) -> Site:
        return Site(self.slug + SUFFIX, self.port)

    async def dial(self, streams: Streams) -> SocketStream:
        """A stream to the port inside. Raises UnreachableError."""
        connect = streams(self.sandbox_id)
        if connect is None:
            raise UnreachableError("gone")
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                return await to_port(connect, self.port)
        except GuestRefusedError as error:
            raise UnreachableError("closed" if error.status == 404 else "silent") from error
        except (TimeoutError, ConnectionError) as error:
            raise UnreachableError("silent") from error


@dataclass(slots=True, kw_only=True)
class Visit:
    """One connection of a client to one published port, for the audit. Bytes from the code's side. `why` as in
    UnreachableError, "host" for a request that was refused, or "" when the port was reached."""

    entry: Entry
    protocol: str
    peer: str
    sent_bytes: int = 0
    received_bytes: int = 0
    why: str = ""
    began: float = field(default_factory=time.time)
    _began: float = field(default_factory=time.monotonic)

    def line(self, sandbox: str | None) -> AuditLine:
        """When it is over."""
        entry = self.entry
        return AuditLine(
            time=self.began, sandbox_id=entry.sandbox_id, sandbox=sandbox, via="publish", host=entry.site.host,
            verdict=_VERDICTS.get(self.why, "failed"), port=entry.port, protocol=self.protocol, address=self.peer,
            reason=_REASONS[self.why], sent_bytes=self.sent_bytes, received_bytes=self.received_bytes,
            duration_seconds=round(time.monotonic() - self._began, 6),
        )  # fmt: skip


class Table:
    def __init__(self) -> None:
        self._by_slug: dict[str, Entry] = {}
        self._gone: dict[str, Entry] = {}

    def add(self, entry: Entry) -> None:
        self._gone.pop(entry.slug, None)
        self._by_slug[entry.slug] = entry

    def remove(self, sandbox_id: str, port: int) -> Entry | None:
        """For good: nobody knows the name any more."""
        entry = self.get(sandbox_id, port)
        if entry is not None:
            del self._by_slug[entry.slug]
        return entry

    def leave(self, sandbox_id: str) -> list[Entry]:
        """The sandbox has gone, perhaps to come back."""
        left = [entry for entry in self._by_slug.values() if entry.sandbox_id == sandbox_id]
        for entry in left:
            self._gone[entry.slug] = self._by_slug.pop(entry.slug)
            if len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]
        return left

    def get(self, sandbox_id: str, port: int) -> Entry | None:
        for entry in self._by_slug.values():
            if (entry.sandbox_id, entry.port) == (sandbox_id, port):
                return entry
        return None

    def named(self, host: str) -> Entry | None:
        """Of a request's host (lower case, without port): exactly SLUG.localhost. A name that anything else points at
        this machine, as DNS rebinding does, is nobody's. An entry of a sandbox that has gone cannot be dialled."""
        if not host.endswith(SUFFIX):
            return None
        slug = host.removesuffix(SUFFIX)
        return self._by_slug.get(slug) or self._gone.get(slug)
