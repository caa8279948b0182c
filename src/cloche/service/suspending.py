"""Suspend and resume: a sandbox whose memory and disk are in files, and that takes no memory meanwhile."""

from __future__ import annotations

import contextlib

from cloche.engines.base import Engine, Manifest
from cloche.model.errors import ClocheError, EngineError
from cloche.model.lifecycle import State
from cloche.model.sandbox import SandboxRecord
from cloche.service import bringup, captures, teardown
from cloche.service.core import Core
from cloche.service.steps import Steps, to_the_end

STOPPING: frozenset[State] = frozenset({"stopping"})
#: also what could not be brought to an end, when the next node tries again
_HALF: frozenset[State] = frozenset({"stopping", "creating", "failed"})


async def suspend(core: Core, record: SandboxRecord) -> SandboxRecord:
    """The caller holds the lock. Until the capture is whole and noted, a failure lets the sandbox go on as it was."""
    await captures.require_able(core, record, "suspend")
    sandbox_id, was = record.sandbox.id, record.sandbox.state
    intent = core.intent(sandbox_id, "suspend", was)
    record = await core.store.transition(sandbox_id, teardown.ALIVE, "stopping", intent=intent)
    try:
        await core.reached("suspend.marked")
        manifest = await _capture(core, record)
        record = await core.store.transition(sandbox_id, STOPPING, "stopping", suspended=manifest)
    except BaseException:
        async with teardown.or_failed(core, record, "suspend_failed"):
            await undo_suspend(core, record, was)
        raise
    await core.reached("suspend.noted")
    async with teardown.or_failed(core, record, "suspend_failed"):
        return await finish_suspend(core, record)


async def _capture(core: Core, record: SandboxRecord) -> Manifest:
    sandbox_id = record.sandbox.id
    directory = await core.captures.make("suspended", sandbox_id)
    await core.reached("suspend.directory_made")
    manifest = await core.boxes.engine(record).capture(core.boxes.box(record), directory, resume=False, lasting=False)
    await core.captures.keep("suspended", sandbox_id)
    await core.reached("suspend.captured")
    return manifest


async def undo_suspend(core: Core, record: SandboxRecord, was: State) -> SandboxRecord | None:
    """Let it go on; also what a killed node has left. None: it has ended meanwhile, and that is written down."""
    engine, box, sandbox_id = core.boxes.engine(record), core.boxes.box(record), record.sandbox.id
    await core.captures.discard("suspended", sandbox_id)
    status = await engine.status(box)
    if status.status not in ("running", "paused"):
        await core.store.transition(sandbox_id, _HALF, was)
        await teardown.ended(core, record, status)
        return None
    if (status.status, was) == ("paused", "running"):
        await engine.resume(box)
    return await core.store.transition(sandbox_id, _HALF, was)


async def finish_suspend(core: Core, record: SandboxRecord) -> SandboxRecord:
    """The second half, also for what a killed node has left: the capture is whole, and the box goes."""
    sandbox_id = record.sandbox.id
    await core.door.close(sandbox_id)
    await core.guests.close(sandbox_id)
    await core.boxes.engine(record).remove(core.boxes.box(record))
    await core.reached("suspend.engine_removed")
    await core.boxes.discard(sandbox_id)
    await core.reached("suspend.directories_removed")
    size_bytes = await core.captures.used_bytes("suspended", sandbox_id, record.suspended or {})
    suspended = await core.store.transition(
        sandbox_id, _HALF, "suspended", reason=None, expires_at=None,
        event=core.event(record, "suspended", size_bytes=size_bytes),
    )  # fmt: skip
    await core.reached("suspend.committed")
    return suspended


async def wake(core: Core, record: SandboxRecord) -> SandboxRecord:
    """Run a suspended sandbox again; its time to live begins anew unless it was extended meanwhile. When that fails it
    is suspended as before. The caller holds the lock."""
    before, manifest = record.sandbox, record.suspended
    if manifest is None:
        raise EngineError(f"sandbox {before.id} has no capture to go on from", stage="resume")
    expires_at = before.expires_at or bringup.expiry(before.spec, core.clock.now())
    intent = core.intent(before.id, "wake", "extended" if before.expires_at else "row_written")
    record = await core.store.transition(
        before.id, frozenset({"suspended"}), "creating", intent=intent, expires_at=expires_at
    )

    async def back() -> None:
        await core.store.transition(before.id, bringup.CREATING, "suspended", expires_at=before.expires_at)

    async def stuck() -> None:
        await core.store.transition(before.id, bringup.CREATING, "failed", reason="undo_failed")

    async with Steps("wake", core.observer, stuck) as steps:
        steps.undo(back)
        running = await _restore(core, core.boxes.engine(record), record, manifest, steps)
    with contextlib.suppress(ClocheError):
        # it runs; what is left of the capture is swept at the latest when the next node starts
        await core.captures.discard("suspended", before.id)
    await core.reached("wake.capture_removed")
    return running


async def _restore(
    core: Core, engine: Engine, record: SandboxRecord, manifest: Manifest, steps: Steps
) -> SandboxRecord:
    sandbox_id, box = record.sandbox.id, core.boxes.box(record)
    core.door.expect(record.sandbox.spec)
    await steps.reached("row_written")
    steps.undo(lambda: core.boxes.discard(sandbox_id))
    await core.boxes.make(sandbox_id)
    await steps.reached("directories_made")
    steps.undo(lambda: engine.remove(box))
    directory = str(core.captures.path("suspended", sandbox_id))
    await to_the_end(engine.restore(box, directory, manifest, forked=False))
    await steps.reached("engine_restored")
    await bringup.meet(core, record, steps)
    steps.undo(lambda: core.door.close(sandbox_id))
    await core.door.open(record, tell=True)
    running = await core.store.transition(
        sandbox_id, bringup.CREATING, "running", suspended=None, event=core.event(record, "resumed", suspended=True)
    )
    await steps.reached("committed")
    return running


async def undo_wake(core: Core, record: SandboxRecord, *, extended: bool) -> SandboxRecord:
    """A node was killed while it resumed this one: it is suspended as before. `extended`: its deadline is not that of
    the life that did not begin, but was given to it before."""
    sandbox_id = record.sandbox.id
    await core.boxes.engine(record).remove(core.boxes.box(record))
    await core.boxes.discard(sandbox_id)
    expires_at = record.sandbox.expires_at if extended else None
    return await core.store.transition(sandbox_id, _HALF, "suspended", reason=None, expires_at=expires_at)
