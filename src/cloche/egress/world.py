"""What all connections of the door share: the way out, the audit, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cloche.channel.base import ByteStream
from cloche.egress.auditing.news import AuditSink, EventPace
from cloche.egress.hooks import Hooks, Site
from cloche.egress.messages import FromDoor
from cloche.egress.outward.own_addresses import OwnAddresses
from cloche.egress.outward.resolve import Resolver
from cloche.egress.outward.sockets import SocketStream
from cloche.egress.outward.upstream_proxy import UpstreamProxies


class Inspects(Protocol):
    async def inspect_tls(self, client: ByteStream, site: Site, hooks: Hooks, first: bytes = b"") -> None: ...


class Neighbour(Protocol):
    """Another sandbox, as seen by one that wants to connect to it."""

    def accepts(self, sandbox: str | None, port: int) -> bool: ...
    async def dial(self, port: int) -> SocketStream: ...


#: (project, name): the sandbox of that name, None when there is none
Neighbours = Callable[[str, str], "Neighbour | None"]


@dataclass(slots=True)
class World:
    resolver: Resolver
    proxies: UpstreamProxies
    own: OwnAddresses
    audit: AuditSink
    pace: EventPace
    inspector: Callable[[], Inspects]
    tell: Callable[[FromDoor], None]
    neighbours: Neighbours
