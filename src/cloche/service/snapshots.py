"""Snapshots: taken, listed, checked and removed. Their files never change, and no sandbox needs them once it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from cloche.engines.base import Manifest
from cloche.model import snapshot as rules
from cloche.model.errors import EngineError, InvalidError, LimitHitError, NotFoundError, WrongStateError
from cloche.model.events import DEFAULT_PROJECT, Event
from cloche.model.ids import new_event_id, new_snapshot_id
from cloche.model.lifecycle import require
from cloche.model.sandbox import SandboxRecord
from cloche.model.snapshot import Snapshot, SnapshotList, SnapshotRecord, SnapshotSpec
from cloche.service import captures
from cloche.service.core import Core
from cloche.service.reaper import Reaper
from cloche.service.steps import Steps, to_the_end

MIN_PREFIX = 4


class SnapshotService:
    """`ref` is an id, a name, or a unique prefix of an id (at least 4 characters after `sn_`). All raise NotFoundError
    for an unknown `ref` and InvalidError for an ambiguous one."""

    def __init__(self, core: Core, reaper: Reaper) -> None:
        self._core = core
        self._reaper = reaper
        self._users: Counter[str] = Counter()

    async def create(self, ref: str, asked: SnapshotSpec, *, project_id: str = DEFAULT_PROJECT) -> Snapshot:
        """Capture a sandbox (`ref`) that goes on as it was. Raises WrongStateError, AlreadyExistsError (the name),
        LimitHitError beyond 1000, UnavailableError, NoSpaceError, EngineError."""
        asked.check()
        core = self._core
        sandbox = await core.resolve(project_id, ref)
        require("snapshot", sandbox.sandbox.state, ref)
        await captures.require_able(core, sandbox, "memory_snapshot")
        await self.require_room(project_id)
        snapshot = _planned(sandbox, asked, core.clock.now())
        async with Steps("snapshot", core.observer) as steps:
            await self.begin(snapshot, steps)
            with self._reaper.using(sandbox.sandbox.id):
                manifest = await to_the_end(self._capture(sandbox.sandbox.id, ref, snapshot.id))
            return await self.commit(msgspec.structs.replace(snapshot, manifest=manifest), "created", steps)

    async def begin(self, snapshot: Snapshot, steps: Steps) -> None:
        """The row, which says what is about to be made, with the undo of it and of its files."""
        core = self._core
        steps.undo(lambda: core.store.delete_snapshot(snapshot.id))
        await core.store.insert_snapshot(SnapshotRecord(snapshot=snapshot, state="creating"))
        await steps.reached("row_written")
        steps.undo(lambda: core.captures.discard("snapshots", snapshot.id))

    async def commit(self, snapshot: Snapshot, kind: str, steps: Steps) -> Snapshot:
        """Once its files are there: read them whole, and show it."""
        core = self._core
        files = await core.captures.described("snapshots", snapshot.id)
        await core.captures.keep("snapshots", snapshot.id)
        await steps.reached("files_read")
        # what an engine shares between captures is not shared with one from elsewhere
        told = {} if kind == "imported" else snapshot.manifest
        size_bytes = await core.captures.used_bytes("snapshots", snapshot.id, told)
        ready = msgspec.structs.replace(snapshot, files=files, size_bytes=size_bytes)
        event = self.event(ready, kind, size_bytes=size_bytes)
        await core.store.put_snapshot(SnapshotRecord(snapshot=ready, state="ready"), event)
        await steps.reached("committed")
        return ready

    async def get(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> Snapshot:
        found = await self._core.store.snapshot(project_id, ref.lower() if ref.lower().startswith("sn_") else ref)
        if found is not None and found.state == "ready":
            return found.snapshot
        return await self._by_prefix(ref.lower(), project_id)

    async def all(self, *, project_id: str = DEFAULT_PROJECT) -> SnapshotList:
        found = await self._core.store.snapshots(project_id)
        return SnapshotList(snapshots=[record.snapshot for record in found if record.state == "ready"])

    async def verify(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> Snapshot:
        """Read it whole. Raises EngineError for what is damaged, UnavailableError when this machine cannot run it."""
        snapshot = await self.get(ref, project_id=project_id)
        with self.using(snapshot):
            found = await self._core.captures.described("snapshots", snapshot.id)
            require_same(snapshot, found)
            await self.require_usable(snapshot)
        return snapshot

    async def require_usable(self, snapshot: Snapshot) -> None:
        """Let the engine read it. Raises EngineError, UnavailableError, InvalidError for an engine that is not here."""
        directory = str(self._core.captures.path("snapshots", snapshot.id))
        await self._core.engines.get(snapshot.engine).verify(directory, snapshot.manifest)

    async def remove(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> None:
        """Sandboxes that were made from it go on. Raises WrongStateError while one is being made of it, or while it is
        exported."""
        snapshot = await self.get(ref, project_id=project_id)
        if self._users[snapshot.id]:
            raise WrongStateError(f"snapshot {ref} is being used just now", remedy="try again in a moment")
        await to_the_end(self._remove(snapshot))

    async def _remove(self, snapshot: Snapshot) -> None:
        core = self._core
        await core.store.put_snapshot(SnapshotRecord(snapshot=snapshot, state="removing"))
        await core.reached("snapshot_remove.marked")
        await core.captures.discard("snapshots", snapshot.id)
        await core.reached("snapshot_remove.files_removed")
        await core.store.delete_snapshot(snapshot.id, self.event(snapshot, "removed"))
        await core.reached("snapshot_remove.committed")

    async def require_room(self, project_id: str) -> None:
        """Raise LimitHitError when there are as many as there may be."""
        if len(await self._core.store.snapshots(project_id)) >= rules.MAX_SNAPSHOTS:
            raise LimitHitError(f"there are {rules.MAX_SNAPSHOTS} snapshots already", limit="snapshots",
                                remedy="cloche snapshot rm …")  # fmt: skip

    @contextmanager
    def using(self, snapshot: Snapshot) -> Iterator[None]:
        """While this is held its files stay."""
        self._users[snapshot.id] += 1
        try:
            yield
        finally:
            self._users[snapshot.id] -= 1
            self._users = +self._users

    def event(self, snapshot: Snapshot, kind: str, **data: object) -> Event:
        about = {"snapshot": snapshot.id, "snapshot_name": snapshot.name, **data}
        kept = {key: value for key, value in about.items() if value is not None}
        return Event(id=new_event_id(), project_id=snapshot.project_id, sandbox_id=snapshot.sandbox_id,
                     at=self._core.clock.now(), kind=f"snapshot.{kind}", data=kept)  # fmt: skip

    async def _capture(self, sandbox_id: str, ref: str, name: str) -> Manifest:
        core = self._core
        async with core.locks.hold(sandbox_id):
            record = await core.store.get(sandbox_id)
            if record is None:
                raise NotFoundError(f"there is no sandbox {ref!r} any more")
            require("snapshot", record.sandbox.state, ref)
            return await captures.take(core, record, "snapshots", name, "snapshot", lasting=True)

    async def _by_prefix(self, ref: str, project_id: str) -> Snapshot:
        found = (await self.all(project_id=project_id)).snapshots if len(ref) >= 3 + MIN_PREFIX else []
        same = [snapshot for snapshot in found if ref.startswith("sn_") and snapshot.id.startswith(ref)]
        if not same:
            raise NotFoundError(f"there is no snapshot {ref!r}", remedy="cloche snapshot ls")
        if len(same) > 1:
            raise InvalidError(f"{ref!r} could be any of {len(same)} snapshots", field="ref",
                               remedy="write more of the id")  # fmt: skip
        return same[0]


def require_same(snapshot: Snapshot, found: list[rules.SnapshotFile]) -> None:
    """Raise EngineError naming the first file that is not as it was written."""
    present = {file.name: file for file in found}
    for file in snapshot.files:
        if present.get(file.name) != file:
            what = "is missing" if file.name not in present else "is not what was written"
            raise EngineError(f"snapshot {snapshot.name or snapshot.id} is damaged: {file.name} {what}",
                              stage="verify", remedy=f"cloche snapshot rm {snapshot.id}")  # fmt: skip


def _planned(record: SandboxRecord, asked: SnapshotSpec, now: float) -> Snapshot:
    sandbox = record.sandbox
    return Snapshot(
        id=new_snapshot_id(), project_id=sandbox.project_id, name=asked.name, kind=asked.kind, sandbox_id=sandbox.id,
        engine=sandbox.engine, isolation=sandbox.isolation, spec=sandbox.spec, limits=sandbox.limits,
        labels=asked.labels, description=asked.description, created_at=now, size_bytes=0, files=[], manifest={},
    )  # fmt: skip
