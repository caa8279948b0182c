"""Sandboxes that go on from a capture: the forks of a running one, all of them or none, and one from a snapshot."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import msgspec

from cloche.engines.base import Engine, Manifest
from cloche.model.errors import AlreadyExistsError, NotFoundError
from cloche.model.events import DEFAULT_PROJECT, Event
from cloche.model.ids import new_capture_id
from cloche.model.lifecycle import require
from cloche.model.sandbox import Sandbox, SandboxRecord, SandboxSpec, check_env
from cloche.model.snapshot import ForkSpec, apply, child_spec
from cloche.model.template import given
from cloche.service import bringup, captures
from cloche.service.core import Core
from cloche.service.egress_specs import require_usable, taken
from cloche.service.reaper import Reaper
from cloche.service.snapshots import SnapshotService
from cloche.service.steps import Steps, to_the_end

#: sandboxes that are restored side by side, for each CPU
AT_ONCE = 2
Setup = Callable[[SandboxRecord], Awaitable[None]]


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """A capture on the disk."""

    directory: str
    manifest: Manifest


class Forking:
    def __init__(self, core: Core, reaper: Reaper, snapshots: SnapshotService) -> None:
        self._core = core
        self._reaper = reaper
        self._snapshots = snapshots

    async def fork(self, ref: str, asked: ForkSpec, *, project_id: str = DEFAULT_PROJECT) -> list[Sandbox]:
        """As many sandboxes with the same files and processes, all of one moment; the parent goes on as soon as that is
        captured. All or none. Raises InvalidError, WrongStateError, AlreadyExistsError (a name), UnavailableError,
        NoSpaceError, EngineError."""
        asked.check()
        core, name = self._core, new_capture_id()
        parent = await core.resolve(project_id, ref)
        require("fork", parent.sandbox.state, ref)
        await captures.require_able(core, parent, "fork")
        planned = await self._planned(parent, asked)
        try:
            with self._reaper.using(parent.sandbox.id):
                capture = await to_the_end(self._capture(parent.sandbox.id, ref, name))
            children = await self._children(parent, planned, capture)
        finally:
            await to_the_end(core.captures.discard("captures", name))
        await core.reached("fork.capture_removed")
        return [child.sandbox for child in children]

    async def create(
        self, asked: SandboxSpec, session_env: dict[str, str], said: frozenset[str] | None, project_id: str,
        session_secrets: Mapping[str, str],
    ) -> Sandbox:  # fmt: skip
        """One sandbox from the snapshot that `asked` names. `said`: as in `SandboxService.create`. A secret whose value
        nobody gives is missing in it. Raises NotFoundError, InvalidError for what the snapshot contradicts, and what
        an engine's `restore` raises."""
        asked.check()
        check_env(session_env)
        core = self._core
        snapshot = await self._snapshots.get(asked.snapshot or "", project_id=project_id)
        engine = await core.engines.choose(snapshot.engine, asked.isolation)
        spec = apply(snapshot, asked, given(asked) if said is None else said)
        spec.check()
        require_usable(spec)
        spec = taken(core.secrets, spec, session_secrets, complete=False)
        record = bringup.new_record(core, spec, engine, await engine.capabilities(), project_id)
        event = core.event(record, "created", name=spec.name, engine=engine.name, snapshot=snapshot.id)
        directory = str(core.captures.path("snapshots", snapshot.id))

        async def setup(made: SandboxRecord) -> None:
            # without a word the processes to come keep the environment that the capture has
            if session_env or asked.env or (spec.user, spec.workdir) != (snapshot.spec.user, snapshot.spec.workdir):
                await bringup.configure(made.sandbox, await core.guests.get(made), session_env)
            await core.door.open(made, strict=False, tell=snapshot.spec.egress is not None)

        try:
            with self._snapshots.using(snapshot):
                capture = Capture(directory=directory, manifest=snapshot.manifest)
                (made,) = await grow(core, engine, [record], capture, [event], "unfreeze", setup)
        finally:
            core.secrets.drop(spec.secrets)
        self._reaper.watch(made)
        return made.sandbox

    async def _planned(self, parent: SandboxRecord, asked: ForkSpec) -> list[SandboxRecord]:
        """The rows to be. What could be refused is refused before the parent is stopped for the capture."""
        core, sandbox = self._core, parent.sandbox
        engine = core.boxes.engine(parent)
        capabilities = await engine.capabilities()
        planned = []
        for number in range(asked.count):
            spec = child_spec(sandbox.spec, asked, number)
            spec.check()
            await _require_free(core, sandbox.project_id, spec.name)
            record = bringup.new_record(core, spec, engine, capabilities, sandbox.project_id)
            child = msgspec.structs.replace(record.sandbox, parent_id=sandbox.id, limits=sandbox.limits)
            planned.append(msgspec.structs.replace(record, sandbox=child))
        return planned

    async def _capture(self, sandbox_id: str, ref: str, name: str) -> Capture:
        core = self._core
        async with core.locks.hold(sandbox_id):
            record = await core.store.get(sandbox_id)
            if record is None:
                raise NotFoundError(f"there is no sandbox {ref!r} any more")
            require("fork", record.sandbox.state, ref)
            manifest = await captures.take(core, record, "captures", name, "fork", lasting=False)
        return Capture(directory=str(core.captures.path("captures", name)), manifest=manifest)

    async def _children(
        self, parent: SandboxRecord, planned: Sequence[SandboxRecord], capture: Capture
    ) -> list[SandboxRecord]:
        core, engine = self._core, self._core.boxes.engine(parent)
        told = [core.event(record, "created", name=record.sandbox.name, engine=engine.name, parent_id=parent.sandbox.id)
                for record in planned]  # fmt: skip
        told.append(core.event(parent, "forked", children=[record.sandbox.id for record in planned]))

        async def setup(made: SandboxRecord) -> None:
            core.secrets.inherit(parent.sandbox.id, made.sandbox.id)
            await core.door.open(made, strict=False)

        children = await grow(core, engine, planned, capture, told, "fork", setup)
        for child in children:
            self._reaper.watch(child)
        return children


async def grow(
    core: Core, engine: Engine, planned: Sequence[SandboxRecord], capture: Capture, events: Sequence[Event],
    operation: str, setup: Setup | None = None,
) -> list[SandboxRecord]:  # fmt: skip
    """Make all of them and let them run, or leave nothing. `setup` is done in each before it counts as running."""
    gate = asyncio.Semaphore(AT_ONCE * (os.cpu_count() or 1))

    for record in planned:
        core.door.expect(record.sandbox.spec)

    async def one(record: SandboxRecord, steps: Steps) -> None:
        async with gate:
            await _restored(core, engine, record, capture, steps)
            if setup is not None:
                await setup(record)

    async with AsyncExitStack() as stack:
        work = []
        for record in planned:
            await stack.enter_async_context(core.locks.hold(record.sandbox.id))
            steps = await stack.enter_async_context(bringup.undoing(core, operation, record.sandbox.id))
            work.append(one(record, steps))
        await _all(work)
        await core.reached(f"{operation}.all_made")
        ids = [record.sandbox.id for record in planned]
        made = await core.store.settle(ids, bringup.CREATING, "running", events=events, started_at=core.clock.now())
        await core.reached(f"{operation}.committed")
        return made


async def _restored(core: Core, engine: Engine, record: SandboxRecord, capture: Capture, steps: Steps) -> None:
    await bringup.build(
        core, engine, record, steps,
        lambda box: engine.restore(box, capture.directory, capture.manifest, forked=True),
    )  # fmt: skip
    await bringup.meet(core, record, steps)
    steps.undo(lambda: core.door.close(record.sandbox.id))


async def _all(work: Sequence[Awaitable[None]]) -> None:
    """Raises what the first raised that failed, when none of them is at work any more."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _require_free(core: Core, project_id: str, name: str | None) -> None:
    if name is not None and await core.store.find(project_id, name):
        raise AlreadyExistsError(f"a sandbox named {name!r} exists already",
                                 remedy=f"take another name, or: cloche rm -f {name}", name=name)  # fmt: skip
