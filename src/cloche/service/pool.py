"""Warm pools: sandboxes that wait ready, so that a create is one write into the store and one request to a guest.

What a create must share with a waiting sandbox to become its owner is the pool's key (model/pool.py)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager

import msgspec

from cloche.engines.base import Engine
from cloche.model.errors import AlreadyExistsError, ClocheError
from cloche.model.pool import PoolPlan, PoolReport, difference, key_of, merged
from cloche.model.sandbox import SandboxRecord, SandboxSpec, check_env
from cloche.model.template import Template, WarmContext
from cloche.service import bringup, members
from cloche.service.core import Core
from cloche.service.filler import QUIET_SECONDS, Filler
from cloche.service.shelves import Shelf, Shelves
from cloche.store.base import name_taken

log = logging.getLogger("cloche.service")


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`size`: how many sandboxes of the plain default wait. `memory_mib`: what all that wait may use together.
    `quiet_seconds`: how long after a create nothing is made for a pool."""

    size: int = 0
    memory_mib: int = 1024
    quiet_seconds: float = QUIET_SECONDS


class Pool:
    """Call `start` once the node serves, `stop` to fill no more, `drain` to remove what waits."""

    def __init__(self, core: Core, settings: PoolSettings) -> None:
        self._core = core
        self._settings = settings
        self._shelves = Shelves(settings.memory_mib << 20)
        self._filler = Filler(core, self._shelves, settings.quiet_seconds)
        self._replanning = asyncio.Lock()

    async def start(self) -> None:
        """Begin to fill in the background."""
        await self.replan()
        self._filler.start()

    async def stop(self) -> None:
        """Fill and watch no more; the members stay as they are."""
        await self._filler.stop()

    async def drain(self) -> None:
        """Remove every member."""
        await self._filler.drain()

    async def replan(self) -> None:
        """Take note that templates have changed."""
        async with self._replanning:
            self._shelves.replan(merged(await self._plans()))
        self._filler.look()

    async def report(self) -> PoolReport:
        """All pools, their members measured now."""
        # while a change is being taken note of, what is wanted is not known
        async with self._replanning:
            await self._filler.measure()
        return PoolReport(
            pools=[shelf.info() for shelf in self._shelves], memory_bytes=self._shelves.memory_bytes(),
            memory_limit_bytes=self._shelves.limit_bytes,
        )  # fmt: skip

    def creating(self) -> AbstractContextManager[None]:
        """While this is held somebody waits for a sandbox that is being made, and no member is begun."""
        return self._filler.creating()

    async def claim(
        self, spec: SandboxSpec, session_env: dict[str, str], project_id: str, contexts: Sequence[WarmContext] = ()
    ) -> SandboxRecord | None:
        """A sandbox that waited and is now what was asked for; None when one must be made. Raises what a create with
        this spec would."""
        if not self._shelves:
            return None
        spec.check()
        check_env(session_env)
        engine = await self._core.engines.choose(spec.engine, spec.isolation)
        wanted = key_of(engine.name, spec, contexts, session_env)
        shelf = self._shelves.get(wanted.digest())
        if shelf is None:
            missed = self._shelves.meant_for(spec.template)
            if missed is not None:
                missed.misses[difference(wanted, missed.plan.key) or "key"] += 1
            return None
        if contexts and spec.secrets:
            # their interpreters were started without the variables
            shelf.misses["secrets"] += 1
            return None
        return await self._claim(shelf, engine, spec, session_env, project_id)

    async def _claim(
        self, shelf: Shelf, engine: Engine, spec: SandboxSpec, session_env: dict[str, str], project_id: str
    ) -> SandboxRecord | None:
        capabilities = await engine.capabilities()
        asked = bringup.new_record(self._core, spec, engine, capabilities, project_id)
        await self._require_free(asked)
        if not shelf.ready:
            shelf.misses["empty"] += 1
            return None
        late = capabilities.late_limits
        if members.refused_limits(self._core, engine, shelf.ready[0], asked.sandbox.limits, late):
            shelf.misses["limits"] += 1
            return None
        return await self._take(shelf, engine, asked, session_env)

    async def _require_free(self, asked: SandboxRecord) -> None:
        """Before a member is used up for a name that cannot be given."""
        sandbox = asked.sandbox
        if sandbox.name is not None and await self._core.store.find(sandbox.project_id, sandbox.name):
            raise name_taken(asked)

    async def _take(
        self, shelf: Shelf, engine: Engine, asked: SandboxRecord, session_env: dict[str, str]
    ) -> SandboxRecord | None:
        # nothing is awaited between the look and this: no other claim can have the same
        member = shelf.ready.popleft()
        try:
            record = await members.hand_over(self._core, engine, member, asked, session_env)
        except AlreadyExistsError:
            raise
        except (ClocheError, OSError) as error:
            log.warning("sandbox %s waited and could not be given out: %s", member.record.sandbox.id, error)
            shelf.misses["failed"] += 1
            return None
        finally:
            if member.guard is not None:
                member.guard.cancel()
            self._filler.asked()
        shelf.hit()
        return record

    async def _plans(self) -> list[PoolPlan]:
        plans = []
        if self._settings.size > 0:
            plans += await self._plan(SandboxSpec(), self._settings.size)
        for template in await self._core.store.templates(None):
            if template.warm.size > 0:
                plans += await self._plan(template.spec, template.warm.size, template)
        return plans

    async def _plan(self, spec: SandboxSpec, size: int, template: Template | None = None) -> list[PoolPlan]:
        """Empty where the spec cannot be made now."""
        try:
            engine = await self._core.engines.choose(spec.engine, spec.isolation)
        except ClocheError as error:
            log.warning("no pool of %s: %s", template.name if template else "plain sandboxes", error)
            return []
        key = key_of(engine.name, spec, template.warm.contexts if template else ())
        names = [template.name] if template else []
        return [PoolPlan(key=key, spec=spec, wanted=size, templates=names, plain=template is None)]
