"""The life of sandboxes: what the API offers about them, one method per operation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from cloche.engines.base import BoxUsage
from cloche.guest_api import GuestStats
from cloche.model.errors import ClocheError, InvalidError, NotFoundError, WrongStateError
from cloche.model.events import DEFAULT_PROJECT, MAX_PAGE, Event, SandboxPage, SandboxQuery, SandboxStats
from cloche.model.ids import is_sandbox_id
from cloche.model.lifecycle import LIVING, State, require
from cloche.model.sandbox import Sandbox, SandboxRecord, SandboxSpec
from cloche.model.template import WarmContext
from cloche.service import bringup, egress_specs, suspending, teardown
from cloche.service.core import Core
from cloche.service.forking import Forking
from cloche.service.pool import Pool
from cloche.service.reaper import Reaper
from cloche.service.steps import to_the_end
from cloche.service.templates import TemplateService

MAX_TTL_SECONDS = 366 * 86400
MAX_GRACE_SECONDS = 3600


class SandboxService:
    """`ref` is an id, a name, or a unique prefix of an id (at least 4 characters after `sb_`).
    All raise NotFoundError for an unknown `ref` and InvalidError for an ambiguous one."""

    def __init__(self, core: Core, reaper: Reaper, pool: Pool, templates: TemplateService, forking: Forking) -> None:
        self._core = core
        self._reaper = reaper
        self._pool = pool
        self._templates = templates
        self._forking = forking

    async def create(
        self, spec: SandboxSpec, *, session_env: dict[str, str] | None = None, project_id: str = DEFAULT_PROJECT,
        said: frozenset[str] | None = None, session_secrets: dict[str, str] | None = None,
    ) -> Sandbox:  # fmt: skip
        """A running sandbox. `session_env` is for this start only and never stored; `session_secrets`: values of its
        secrets, by name, which are kept in memory only. `said`: the fields of a spec with a
        template or a snapshot that were given; None: those that are not as they are by default."""
        secrets = session_secrets or {}
        spec = egress_specs.asked_for(spec)
        if spec.snapshot is not None:
            return await self._forking.create(spec, session_env or {}, said, project_id, secrets)
        closed = spec.egress is None and "egress" in (said or ())
        spec, contexts = await self._templates.resolve(spec, said, project_id)
        spec = egress_specs.with_door(spec, closed=closed)
        spec.check()
        egress_specs.require_usable(spec)
        spec = egress_specs.taken(self._core.secrets, spec, secrets, complete=True)
        try:
            record = await self._made(spec, session_env or {}, project_id, contexts)
        finally:
            self._core.secrets.drop(spec.secrets)
        self._reaper.watch(record)
        return record.sandbox

    async def _made(
        self, spec: SandboxSpec, session_env: dict[str, str], project_id: str, contexts: list[WarmContext]
    ) -> SandboxRecord:
        record = await self._pool.claim(spec, session_env, project_id, contexts)
        if record is not None:
            return record
        with self._pool.creating():
            return await bringup.create(self._core, spec, session_env, project_id, contexts)

    async def get(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> Sandbox:
        return (await self._core.resolve(project_id, ref)).sandbox

    async def find(self, query: SandboxQuery | None = None, *, project_id: str = DEFAULT_PROJECT) -> SandboxPage:
        """Oldest first."""
        query = query or SandboxQuery()
        if not 1 <= query.limit <= MAX_PAGE:
            raise InvalidError(f"limit must be from 1 to {MAX_PAGE}", field="limit")
        # one more than asked for tells whether there is a next page
        more = await self._core.store.select(project_id, msgspec.structs.replace(query, limit=query.limit + 1))
        found = [record.sandbox for record in more[: query.limit]]
        return SandboxPage(sandboxes=found, next_cursor=found[-1].id if len(more) > query.limit else None)

    async def start(
        self, ref: str, *, session_env: dict[str, str] | None = None, project_id: str = DEFAULT_PROJECT,
        session_secrets: dict[str, str] | None = None,
    ) -> Sandbox:  # fmt: skip
        """Run a stopped sandbox again with the disk it had. `session_secrets`: new values of its secrets, by name."""

        async def run(record: SandboxRecord) -> SandboxRecord:
            require("start", record.sandbox.state, ref)
            self._core.secrets.give(record, session_secrets or {})
            started = await bringup.start(self._core, record, session_env or {})
            self._reaper.watch(started)
            return started

        return await self._locked(project_id, ref, run)

    async def stop(self, ref: str, *, grace_seconds: float = 5.0, project_id: str = DEFAULT_PROJECT) -> Sandbox:
        """SIGTERM to all, SIGKILL after the grace; the disk is kept."""
        if not 0 <= grace_seconds <= MAX_GRACE_SECONDS:
            raise InvalidError(f"grace_seconds must be from 0 to {MAX_GRACE_SECONDS}", field="grace_seconds")

        async def run(record: SandboxRecord) -> SandboxRecord:
            require("stop", record.sandbox.state, ref)
            await teardown.require_room(self._core, record)
            async with self._unwatched(record.sandbox.id):
                return await teardown.stop(self._core, record, grace_seconds)

        return await self._locked(project_id, ref, run)

    async def pause(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> Sandbox:
        async def run(record: SandboxRecord) -> SandboxRecord:
            require("pause", record.sandbox.state, ref)
            await self._core.boxes.engine(record).pause(self._core.boxes.box(record))
            await self._core.reached("pause.engine_paused")
            return await self._moved(record, "paused", "paused")

        return await self._locked(project_id, ref, run)

    async def suspend(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> Sandbox:
        """Memory and disk into files, and no memory taken until `resume`. It does not expire meanwhile unless it is
        extended. Raises UnavailableError, NoSpaceError; then it goes on as it was."""

        async def run(record: SandboxRecord) -> SandboxRecord:
            require("suspend", record.sandbox.state, ref)
            async with self._unwatched(record.sandbox.id):
                return await suspending.suspend(self._core, record)

        return await self._locked(project_id, ref, run)

    async def resume(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> Sandbox:
        """Let a paused or a suspended sandbox go on."""

        async def run(record: SandboxRecord) -> SandboxRecord:
            require("resume", record.sandbox.state, ref)
            if record.sandbox.state == "suspended":
                running = await suspending.wake(self._core, record)
                self._reaper.watch(running)
                return running
            await self._core.boxes.engine(record).resume(self._core.boxes.box(record))
            await self._core.reached("resume.engine_resumed")
            running = await self._moved(record, "running", "resumed")
            await self._core.door.resumed(running)
            return running

        return await self._locked(project_id, ref, run)

    async def extend(self, ref: str, ttl_seconds: float | None, *, project_id: str = DEFAULT_PROJECT) -> Sandbox:
        """Expire `ttl_seconds` from now; None: never."""
        if ttl_seconds is not None and not 0 < ttl_seconds <= MAX_TTL_SECONDS:
            raise InvalidError("ttl_seconds must be above 0 and at most a year", field="ttl_seconds")

        async def run(record: SandboxRecord) -> SandboxRecord:
            require("extend", record.sandbox.state, ref)
            expires_at = None if ttl_seconds is None else self._core.clock.now() + ttl_seconds
            # the engine first: a box that is gone must not look alive for longer
            if record.sandbox.state != "suspended":
                await self._core.boxes.engine(record).set_deadline(self._core.boxes.box(record), expires_at)
            return await self._extended(record, expires_at)

        return await self._locked(project_id, ref, run)

    async def remove(self, ref: str, *, force: bool = True, project_id: str = DEFAULT_PROJECT) -> None:
        """Take it away with its disk. Without `force` a living sandbox raises WrongStateError."""

        async def run(record: SandboxRecord) -> SandboxRecord:
            if record.sandbox.state in LIVING and not force:
                raise WrongStateError(f"sandbox {ref} is {record.sandbox.state}: stop it first, or force its removal",
                                      remedy=f"cloche rm -f {ref}", state=record.sandbox.state)  # fmt: skip
            async with self._unwatched(record.sandbox.id):
                await teardown.remove(self._core, record)
            return record

        await self._locked(project_id, ref, run)

    async def stats(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> SandboxStats:
        return await self.stats_of(await self._core.resolve(project_id, ref))

    async def stats_of(self, record: SandboxRecord) -> SandboxStats:
        """The guest is asked only for what the engine cannot tell: it is the slower of the two, and may hang."""
        sandbox = record.sandbox
        if sandbox.state not in LIVING:
            return SandboxStats(time=self._core.clock.now(), pids_limit=sandbox.limits.pids)
        usage = await self._core.boxes.engine(record).usage(self._core.boxes.box(record))
        known = (usage.memory_bytes, usage.disk_bytes, usage.processes)
        guest = await self._guest_stats(record) if None in known else None
        stats = _stats(self._core.clock.now(), sandbox, usage, guest)
        if not self._core.door.is_open(sandbox.id):
            return stats
        counters = await self._core.door.counters(sandbox.id)
        return msgspec.structs.replace(stats, sent_bytes=counters.sent_bytes, received_bytes=counters.received_bytes)

    async def events(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> list[Event]:
        """Oldest first; also of a removed sandbox when `ref` is its whole id."""
        try:
            record = await self._core.resolve(project_id, ref)
        except NotFoundError:
            kept = await self._core.store.events(ref.lower()) if is_sandbox_id(ref.lower()) else []
            mine = [event for event in kept if event.project_id == project_id]
            if not mine:
                raise
            return mine
        return await self._core.store.events(record.sandbox.id)

    async def _locked(
        self, project_id: str, ref: str, run: Callable[[SandboxRecord], Awaitable[SandboxRecord]]
    ) -> Sandbox:
        """`run` with a fresh record, alone among the operations on this sandbox, and to its end once it began."""
        sandbox_id = (await self._core.resolve(project_id, ref)).sandbox.id

        async def whole() -> SandboxRecord:
            record = await self._core.store.get(sandbox_id)
            if record is None:
                raise NotFoundError(f"there is no sandbox {ref!r} any more")
            return await run(record)

        async with self._core.locks.hold(sandbox_id):
            return (await to_the_end(whole())).sandbox

    @asynccontextmanager
    async def _unwatched(self, sandbox_id: str) -> AsyncIterator[None]:
        """What fails before it has begun leaves a sandbox that lives, expires and keeps the node as before."""
        self._reaper.forget(sandbox_id)
        try:
            yield
        except BaseException:
            record = await self._core.store.get(sandbox_id)
            if record is not None and record.sandbox.state in teardown.ALIVE:
                self._reaper.watch(record)
            raise

    async def _moved(self, record: SandboxRecord, to: State, kind: str) -> SandboxRecord:
        event = self._core.event(record, kind)
        moved = await self._core.store.transition(record.sandbox.id, teardown.ALIVE, to, event=event)
        self._reaper.watch(moved)
        return moved

    async def _extended(self, record: SandboxRecord, expires_at: float | None) -> SandboxRecord:
        event = self._core.event(record, "extended", expires_at=expires_at)
        state = record.sandbox.state
        extended = await self._core.store.transition(
            record.sandbox.id, frozenset({state}), state, expires_at=expires_at, event=event
        )
        self._reaper.watch(extended)
        return extended

    async def _guest_stats(self, record: SandboxRecord) -> GuestStats | None:
        """None from a guest that is frozen or does not answer: the engine's half is still worth having."""
        if record.sandbox.state != "running":
            return None
        try:
            return await (await self._core.guests.get(record)).stats()
        except ClocheError:
            return None


def _stats(now: float, sandbox: Sandbox, usage: BoxUsage, guest: GuestStats | None) -> SandboxStats:
    inside = guest or GuestStats(processes=0)
    return SandboxStats(
        time=now, cpu_seconds=usage.cpu_seconds, memory_peak_bytes=usage.memory_peak_bytes,
        memory_bytes=_first(usage.memory_bytes, inside.memory_bytes), memory_limit_bytes=usage.memory_limit_bytes,
        pids=usage.pids, pids_limit=sandbox.limits.pids, disk_bytes=_first(usage.disk_bytes, inside.disk_bytes),
        disk_limit_bytes=_first(usage.disk_limit_bytes, inside.disk_limit_bytes),
        processes=_first(usage.processes, None if guest is None else guest.processes),
    )  # fmt: skip


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
