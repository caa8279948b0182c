"""From a living sandbox to a stopped one, or to nothing. Whoever calls holds the sandbox's lock.

A failure in the middle leaves the sandbox `failed` with its intent: `remove` may be tried again, and the next start
of the node tries by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cloche.engines.base import BoxStatus
from cloche.model.errors import ClocheError, NoSpaceError
from cloche.model.lifecycle import LIVING, TABLE, State
from cloche.model.sandbox import SandboxRecord
from cloche.service.core import Core

#: beyond the grace itself, for a guest that is slow to answer
ASKING_SECONDS = 2.0
#: beside a disk that is kept: for names, modes and the database
SPARE_BYTES = 1 << 20
ALIVE: frozenset[State] = frozenset({"running", "paused"})
log = logging.getLogger("cloche.service")


async def stop(core: Core, record: SandboxRecord, grace_seconds: float) -> SandboxRecord:
    """SIGTERM to its processes, SIGKILL after the grace, and the disk is kept."""
    sandbox_id, was = record.sandbox.id, record.sandbox.state
    intent = core.intent(sandbox_id, "stop", "marked")
    record = await core.store.transition(sandbox_id, ALIVE, "stopping", intent=intent)
    async with or_failed(core, record, "stop_failed"):
        await core.reached("stop.marked")
        await _ask_to_end(core, record, was, grace_seconds)
        await core.reached("stop.guest_asked")
        return await finish_stop(core, record)


async def require_room(core: Core, record: SandboxRecord) -> None:
    """Raise NoSpaceError while the sandbox still runs: a disk that cannot be kept would be lost with it."""
    engine = core.boxes.engine(record)
    if not (await engine.capabilities()).stop_copies_disk:
        return
    needed = ((await engine.usage(core.boxes.box(record))).disk_bytes or 0) + SPARE_BYTES
    free = await core.boxes.free_bytes()
    if free < needed:
        raise NoSpaceError(
            f"stopping {record.sandbox.id} keeps its disk, for which {needed >> 20} MiB are needed and "
            f"{free >> 20} MiB are free; it goes on",
            remedy=f"free some space under CLOCHE_HOME, or give it up: cloche rm -f {record.sandbox.id}",
        )  # fmt: skip


async def finish_stop(core: Core, record: SandboxRecord, reason: str | None = None) -> SandboxRecord:
    """The second half, also for what a killed node has left in `stopping` or `creating`."""
    engine, sandbox_id = core.boxes.engine(record), record.sandbox.id
    await core.door.close(sandbox_id)
    await core.guests.close(sandbox_id)
    status = await engine.stop(core.boxes.box(record), keep_disk=True)
    await core.reached("stop.engine_stopped")
    keeps = (await engine.capabilities()).restart_keeps_disk
    reason = reason or ("stopped" if keeps else "stopped_disk_lost")
    stopped = await core.store.transition(
        sandbox_id, LIVING | {"failed"}, "stopped", reason=reason, exit_code=status.exit_code,
        stopped_at=core.clock.now(), expires_at=None, event=core.event(record, "stopped", reason=reason),
    )  # fmt: skip
    await core.reached("stop.committed")
    return stopped


async def _ask_to_end(core: Core, record: SandboxRecord, was: State, grace_seconds: float) -> None:
    """The guest asks everything in it to end, daemons too, and leaves; the engine keeps the disk of a box whose guest
    has left in this way."""
    engine, box = core.boxes.engine(record), core.boxes.box(record)
    try:
        async with asyncio.timeout(grace_seconds + ASKING_SECONDS):
            if was == "paused":
                await engine.resume(box)
            await (await core.guests.get(record)).shutdown(grace_seconds)
            await engine.wait(box)
    except (ClocheError, TimeoutError) as error:
        log.info("sandbox %s was not asked to end: %s", record.sandbox.id, error)


async def remove(core: Core, record: SandboxRecord, reason: str = "removed") -> None:
    """Box, directories and row; only events stay."""
    sandbox_id = record.sandbox.id
    intent = core.intent(sandbox_id, "remove", "marked")
    record = await core.store.transition(sandbox_id, TABLE["remove"][0], "stopping", intent=intent)
    async with or_failed(core, record, "remove_failed"):
        await core.reached("remove.marked")
        await finish_remove(core, record, reason)


async def finish_remove(core: Core, record: SandboxRecord, reason: str) -> None:
    """The second half, also for what a killed node has left."""
    sandbox_id = record.sandbox.id
    await core.door.close(sandbox_id)
    await core.guests.close(sandbox_id)
    await core.boxes.engine(record).remove(core.boxes.box(record))
    await core.reached("remove.engine_removed")
    await core.boxes.discard(sandbox_id)
    await core.captures.discard("suspended", sandbox_id)
    await core.reached("remove.directories_removed")
    # what waited in a pool was never anybody's, and nobody is told of its end
    event = None if record.pool_key else core.event(record, "removed", reason=reason)
    await core.store.delete(sandbox_id, event)
    core.door.forget(sandbox_id)
    await core.reached("remove.committed")


async def ended(core: Core, record: SandboxRecord, status: BoxStatus) -> None:
    """The guest has ended by itself: write down how. Expired sandboxes are removed."""
    if status.reason == "expired":
        await remove(core, record, "expired")
        return
    sandbox_id, reason = record.sandbox.id, status.reason or status.status
    to: State = "stopped" if reason == "stopped" else "failed"
    await core.door.close(sandbox_id)
    await core.guests.close(sandbox_id)
    await core.boxes.engine(record).stop(core.boxes.box(record), keep_disk=True)
    event = core.event(record, to, reason=reason, exit_code=status.exit_code, console=status.said)
    await core.store.transition(
        sandbox_id, ALIVE, to, reason=reason, exit_code=status.exit_code, stopped_at=core.clock.now(),
        expires_at=None, event=event,
    )  # fmt: skip


async def end_lost(core: Core, record: SandboxRecord) -> None:
    """It runs, and nobody answers in it that it could be used through."""
    await ended(core, record, BoxStatus(status="exited", reason="guest_lost"))


@asynccontextmanager
async def or_failed(core: Core, record: SandboxRecord, reason: str) -> AsyncIterator[None]:
    """What cannot be brought to an end is `failed`, with its intent: the next start of the node tries again."""
    try:
        yield
    except Exception as error:
        event = core.event(record, "failed", reason=reason, error=str(error)[:500])
        with contextlib.suppress(ClocheError):
            await core.store.transition(
                record.sandbox.id, frozenset({"stopping"}), "failed", reason=reason, event=event
            )
        raise
