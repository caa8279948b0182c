"""Opens what ran when the node started. A node that starts does not wait for a door that is slow: what is not open soon
becomes so while it serves."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from cloche.model.errors import ClocheError, UnavailableError
from cloche.model.sandbox import SandboxRecord

if TYPE_CHECKING:
    from cloche.service.core import Core
    from cloche.service.door import Attachments

#: how long a node that starts waits for the door; what takes longer is done while it serves
ADOPT_SECONDS = 8.0
RETRY_SECONDS = 2.0
#: how long a guest may take to say that it is there; nobody else waits for that
ASKING_SECONDS = 10.0
#: and for the rest, with the door, for which whoever stops or removes the sandbox has to wait
LOCKED_SECONDS = 5.0
_LIVES = frozenset({"running", "paused"})
log = logging.getLogger("cloche.service")


class DoorAdoption:
    def __init__(self, core: Core, attachments: Attachments) -> None:
        self._core, self._attachments = core, attachments
        self._adopt_until = 0.0
        self._later: set[asyncio.Task[None]] = set()

    async def adopt(self, record: SandboxRecord) -> None:
        """As `Attachments.open`, for one that ran when the node started. What is not done soon is done later."""
        loop = asyncio.get_running_loop()
        self._adopt_until = self._adopt_until or loop.time() + ADOPT_SECONDS
        try:
            async with asyncio.timeout_at(self._adopt_until):
                # a node that was killed may have closed it in its row alone
                await self._attachments.open(record, strict=False, tell=True)
        except (ClocheError, TimeoutError) as error:
            log.warning("sandbox %s has no network yet: %s", record.sandbox.id, error)
            if not isinstance(error, (UnavailableError, TimeoutError)):
                # the door is there and does not take it, so it is not open
                await self._attachments.close(record.sandbox.id)
            task = asyncio.ensure_future(self._adopt_later(record.sandbox.id))
            self._later.add(task)
            task.add_done_callback(self._later.discard)

    async def stop(self) -> None:
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)

    async def _adopt_later(self, sandbox_id: str) -> None:
        while (record := await self._core.store.get(sandbox_id)) is not None and record.sandbox.state in _LIVES:
            await asyncio.sleep(RETRY_SECONDS)
            if not await self._answers(record):
                continue
            async with self._core.locks.hold(sandbox_id):
                if await self._adopted(sandbox_id):
                    return

    async def _answers(self, record: SandboxRecord) -> bool:
        """The guest; one that stands still is not asked for anything."""
        if record.sandbox.state == "paused":
            return True
        try:
            await (await self._core.guests.get(record)).health(ASKING_SECONDS)
        except (ClocheError, OSError):
            return False
        return True

    async def _adopted(self, sandbox_id: str) -> bool:
        """True when there is nothing to do any more."""
        record = await self._core.store.get(sandbox_id)
        if record is None or record.sandbox.state not in _LIVES:
            return True
        try:
            await self._attachments.open(record, strict=False, tell=True, seconds=LOCKED_SECONDS)
        except (ClocheError, TimeoutError) as error:
            if not isinstance(error, (UnavailableError, TimeoutError)):
                await self._attachments.close(sandbox_id)
            return False
        return True
