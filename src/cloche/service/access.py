"""The way of every request into a running sandbox: find it, check its state, keep it from being idle, get its guest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cloche.guest_api import Guest
from cloche.model.errors import SandboxDeadError
from cloche.model.lifecycle import require
from cloche.service.core import Core
from cloche.service.reaper import Reaper


class Access:
    def __init__(self, core: Core, reaper: Reaper) -> None:
        self._core = core
        self._reaper = reaper

    @asynccontextmanager
    async def guest(self, project_id: str, ref: str) -> AsyncIterator[Guest]:
        """Raises WrongStateError unless it runs; a SandboxDeadError from within gets the reason that is known."""
        record = await self._core.resolve(project_id, ref)
        sandbox_id = record.sandbox.id
        require("exec", record.sandbox.state, ref)
        with self._reaper.using(sandbox_id):
            try:
                yield await self._core.guests.get(record)
            except SandboxDeadError as error:
                raise await self._with_reason(sandbox_id, error) from error

    async def _with_reason(self, sandbox_id: str, error: SandboxDeadError) -> SandboxDeadError:
        record = await self._core.store.get(sandbox_id)
        reason = "removed" if record is None else record.sandbox.reason
        better = SandboxDeadError(error.message, remedy=error.remedy)
        better.details = {**error.details, **({"reason": reason} if reason else {})}
        return better
