"""The service layer, wired: what the node gives to the API."""

from __future__ import annotations

from pathlib import Path

from cloche.service.access import Access
from cloche.service.clock import Clock, SystemClock
from cloche.service.contexts import ContextService
from cloche.service.core import Core
from cloche.service.dialing import Dialing
from cloche.service.egress import EgressService
from cloche.service.egress_events import EgressEvents
from cloche.service.egress_log import EgressLog
from cloche.service.files import FileService
from cloche.service.forking import Forking
from cloche.service.guests import Guests
from cloche.service.pool import Pool, PoolSettings
from cloche.service.ports import Door, Engines, NoDoor, Observer
from cloche.service.processes import ProcessService
from cloche.service.publishing import Publishing
from cloche.service.reaper import Reaper
from cloche.service.recovery import recover
from cloche.service.sandboxes import SandboxService
from cloche.service.setup import SetupService
from cloche.service.snapshot_copies import SnapshotCopies
from cloche.service.snapshots import SnapshotService
from cloche.service.statistics import Statistics
from cloche.service.templates import TemplateService
from cloche.service.watching import Watching
from cloche.store.base import Store


class Services:
    """Call `recover` before the first request and `close` after the last; `close` leaves sandboxes running."""

    def __init__(
        self, home: Path, store: Store, engines: Engines, clock: Clock | None = None, observer: Observer | None = None,
        pool: PoolSettings | None = None, door: Door | None = None,
    ) -> None:  # fmt: skip
        self.home, self.store, self.engines, self.clock = home, store, engines, clock or SystemClock()
        self._door = door or NoDoor()
        self._core = Core(home, store, engines, self.clock, observer, self._door)
        self.guests: Guests = self._core.guests
        self.reaper = Reaper(self._core)
        self._egress_events = EgressEvents(self._core, self.reaper.used)
        self._door.listen(self._egress_events)
        self.egress = EgressService(self._core, self._door, self._egress_events)
        self.egress_log = EgressLog(self._core, str(home / "audit"))
        self.publishing = Publishing(self._core, self._door)
        access = Access(self._core, self.reaper)
        self.pool = Pool(self._core, pool or PoolSettings())
        self.templates = TemplateService(self._core, self.pool.replan)
        self.snapshots = SnapshotService(self._core, self.reaper)
        self.snapshot_copies = SnapshotCopies(self._core, self.snapshots)
        self.forking = Forking(self._core, self.reaper, self.snapshots)
        self.sandboxes = SandboxService(self._core, self.reaper, self.pool, self.templates, self.forking)
        self.watching = Watching(self._core)
        self.statistics = Statistics(self._core, self.sandboxes.stats_of)
        self.processes = ProcessService(access)
        self.contexts = ContextService(access)
        self.files = FileService(access)
        self.dialing = Dialing(access)
        self.setup = SetupService(engines)

    async def recover(self) -> list[str]:
        """Adopt what still runs, undo or finish what a crash left; one line for each thing done."""
        self.watching.begin()
        return await recover(self._core, self.reaper)

    async def close(self) -> None:
        """Stop watching and give up channels. Sandboxes go on, those in pools are removed; the store is closed."""
        await self.pool.stop()
        await self.pool.drain()
        await self.reaper.close()
        await self._core.door.stop()
        await self._egress_events.close()
        await self._door.close()
        await self.guests.close_all()
        await self.store.close()
