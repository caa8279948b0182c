"""The service layer, wired: what the node gives to the API."""

from __future__ import annotations

from pathlib import Path

from cloche.service.clock import Clock, SystemClock
from cloche.service.files import FileService
from cloche.service.guests import Guests
from cloche.service.ports import Engines, Observer
from cloche.service.processes import ProcessService
from cloche.service.reaper import Reaper
from cloche.service.sandboxes import SandboxService
from cloche.store.base import Store


class Services:
    """Call `recover` before the first request and `close` after the last; `close` leaves sandboxes running."""

    sandboxes: SandboxService
    processes: ProcessService
    files: FileService
    guests: Guests
    reaper: Reaper

    def __init__(
        self, home: Path, store: Store, engines: Engines, clock: Clock | None = None, observer: Observer | None = None
    ) -> None:
        self.home = home
        self.store = store
        self.engines = engines
        self.clock = clock or SystemClock()
        self.observer = observer

    async def recover(self) -> list[str]:
        """Adopt what still runs, undo or finish what a crash left; one line for each thing done."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop watching and give up channels. Sandboxes go on; the store is closed."""
        raise NotImplementedError
