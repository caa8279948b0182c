"""What each sandbox has sent and received through the door: as the door says while it is attached, and as the store has
it afterwards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cloche.model.egress import EgressCounters
from cloche.model.errors import ClocheError
from cloche.store.base import Traffic

if TYPE_CHECKING:
    from cloche.service.core import Core

NOTHING = EgressCounters()


class DoorCounters:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._known: dict[str, EgressCounters] = {}

    def note(self, sandbox_id: str, counters: EgressCounters) -> None:
        """The door has counted."""
        self._known[sandbox_id] = counters

    async def of(self, sandbox_id: str) -> EgressCounters:
        known = self._known.get(sandbox_id)
        if known is None:
            kept = await self._core.store.traffic(sandbox_id)
            return EgressCounters(sent_bytes=kept.sent_bytes, received_bytes=kept.received_bytes)
        return known

    async def close(self, sandbox_id: str, last: EgressCounters | None) -> None:
        """It is attached no more. `last`: what the door said then, if it did. Raises nothing."""
        self._known[sandbox_id] = known = _closed(last or self._known.get(sandbox_id, NOTHING))
        with contextlib.suppress(ClocheError):
            await self._core.store.put_traffic({sandbox_id: _traffic(known)})

    async def keep(self, sandbox_ids: set[str]) -> None:
        """Write down what these have sent and received."""
        known = {key: _traffic(self._known[key]) for key in sandbox_ids if key in self._known}
        if known:
            await self._core.store.put_traffic(known)

    def forget(self, sandbox_id: str) -> None:
        self._known.pop(sandbox_id, None)


def _closed(counters: EgressCounters) -> EgressCounters:
    return EgressCounters(**{**{name: getattr(counters, name) for name in counters.__struct_fields__},
                             "connections_open": 0})  # fmt: skip


def _traffic(counters: EgressCounters) -> Traffic:
    return Traffic(sent_bytes=counters.sent_bytes, received_bytes=counters.received_bytes)
