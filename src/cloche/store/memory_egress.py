"""Traffic and published ports of the store in memory."""

from __future__ import annotations

from collections.abc import Mapping

from cloche.model.events import Event
from cloche.model.sandbox import SandboxRecord
from cloche.store.base import PublishedPort, Traffic
from cloche.store.memory_events import MemoryEvents


class MemoryEgress(MemoryEvents):
    """Only of sandboxes that there are."""

    def __init__(self, events_per_sandbox: int, events_total: int) -> None:
        super().__init__(events_per_sandbox, events_total)
        self._records: dict[str, SandboxRecord] = {}
        self._traffic: dict[str, Traffic] = {}
        self._ports: dict[tuple[str, int], PublishedPort] = {}

    async def put_traffic(self, traffic: Mapping[str, Traffic]) -> None:
        self._traffic.update({sandbox_id: each for sandbox_id, each in traffic.items() if sandbox_id in self._records})

    async def traffic(self, sandbox_id: str) -> Traffic:
        return self._traffic.get(sandbox_id, Traffic())

    async def put_port(self, published: PublishedPort, event: Event | None = None) -> bool:
        known = published.sandbox_id in self._records
        if known:
            self._ports[published.sandbox_id, published.port] = published
            self._tell(event)
        return known

    async def ports(self, sandbox_id: str | None) -> list[PublishedPort]:
        return [each for _, each in sorted(self._ports.items()) if sandbox_id in (None, each.sandbox_id)]

    async def delete_port(self, sandbox_id: str, port: int, event: Event | None = None) -> bool:
        gone = self._ports.pop((sandbox_id, port), None) is not None
        self._tell(event if gone else None)
        return gone

    def _forget_egress(self, sandbox_id: str) -> None:
        self._traffic.pop(sandbox_id, None)
        self._ports = {key: each for key, each in self._ports.items() if each.sandbox_id != sandbox_id}
