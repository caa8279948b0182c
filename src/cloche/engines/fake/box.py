"""A box of the fake engine and the machine it stands on."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

from cloche.engines.base import BoxStatus, BoxUsage
from cloche.engines.fake import http
from cloche.engines.fake.filesystem import Filesystem
from cloche.engines.fake.guest import FakeGuest, FrozenGuest
from cloche.engines.fake.routes import app
from cloche.engines.fake.streams import MemoryStream, pair
from cloche.model.errors import SandboxDeadError
from cloche.model.limits import ResolvedLimits

KILLED = 137


class FakeBox:
    """Made without a guest (half made) until `boot`."""

    def __init__(self, sandbox_id: str, limits: ResolvedLimits, files: Filesystem) -> None:
        self.sandbox_id = sandbox_id
        self.files = files
        self.keeps_disk = False
        self.ended = asyncio.Event()
        self._limits = limits
        self._guest: FakeGuest | None = None
        self._end = BoxStatus(status="exited", reason="guest_died")
        self._streams: list[MemoryStream] = []
        self._servers: set[asyncio.Task[None]] = set()
        self._deadline: asyncio.TimerHandle | None = None

    def boot(self) -> None:
        self._guest = FakeGuest(
            self.sandbox_id, secrets.token_hex(16), self.files, self._limits.pids, lambda: self.end("stopped", 0)
        )

    def frozen(self) -> FrozenGuest:
        """Raises SandboxDeadError."""
        return self._living().frozen()

    def thaw(self, frozen: FrozenGuest, *, forked: bool) -> None:
        self._living().thaw(frozen, forked=forked)

    def _living(self) -> FakeGuest:
        if self._guest is None:
            raise SandboxDeadError(f"sandbox {self.sandbox_id} does not run", reason=self.status().reason)
        return self._guest

    def connect(self) -> MemoryStream:
        """Raises SandboxDeadError when there is no guest to answer."""
        guest = self._living()
        ours, theirs = pair()
        self._streams = [known for known in self._streams if not known.closed] + [theirs]
        server = asyncio.get_running_loop().create_task(http.serve(theirs, app(guest), guest.running))
        self._servers.add(server)
        server.add_done_callback(self._servers.discard)
        return ours

    def status(self) -> BoxStatus:
        if self._guest is None:
            return self._end
        return BoxStatus(status="running" if self._guest.running.is_set() else "paused")

    @property
    def alive(self) -> bool:
        return self._guest is not None

    def freeze(self, frozen: bool) -> None:
        running = self._living().running
        if frozen:
            running.clear()
        else:
            running.set()

    def set_deadline(self, deadline: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if deadline is not None and self._guest is not None:
            delay = max(0.0, deadline - time.time())
            self._deadline = asyncio.get_running_loop().call_later(delay, self.end, "expired", KILLED)

    def end(self, reason: str, exit_code: int) -> None:
        """The guest is over, at once: its processes die and its streams break. The first reason stays."""
        if self._guest is None:
            return
        guest, self._guest = self._guest, None
        self._end = BoxStatus(status="exited", exit_code=exit_code, reason=reason)
        self.set_deadline(None)
        guest.end()
        for stream in self._streams:
            stream.close_now()
        for server in self._servers:
            server.cancel()
        self.ended.set()

    def usage(self) -> BoxUsage:
        return BoxUsage(
            pids=None if self._guest is None else self._guest.alive() + 1,
            disk_bytes=self.files.used_bytes(),
            disk_limit_bytes=self.files.limit_bytes,
        )


#: data directory → its boxes. Outside of any engine object: as on a real machine, boxes outlive the engine that
#: made them, and another engine of the same directory finds them.
MACHINES: dict[Path, dict[str, FakeBox]] = {}


def machine(home: Path) -> dict[str, FakeBox]:
    return MACHINES.setdefault(home, {})
