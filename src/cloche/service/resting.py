"""What a killed node has left of suspended sandboxes, of captures and of snapshots."""

from __future__ import annotations

import contextlib

from cloche.model.errors import ClocheError
from cloche.model.events import MAX_PAGE, SandboxQuery
from cloche.model.lifecycle import State
from cloche.model.sandbox import SandboxRecord
from cloche.service import adopting, captures, suspending, teardown
from cloche.service.captures import Place
from cloche.service.core import Core
from cloche.service.reaper import Reaper
from cloche.store.base import Operation


async def settle(core: Core, reaper: Reaper, record: SandboxRecord, operation: Operation, step: str) -> str | None:
    """`step`: of the intent. One line, for what was done."""
    sandbox_id = record.sandbox.id
    if operation == "capture":
        await captures.end_captures(core, record)
        return await adopting.adopt(core, reaper, record)
    if operation == "wake":
        await watch(core, reaper, await suspending.undo_wake(core, record, extended=step == "extended"))
        return f"{sandbox_id}: undid its resume"
    if record.suspended is not None:
        await suspending.finish_suspend(core, record)
        return f"{sandbox_id}: finished its suspend"
    was: State = "paused" if step == "paused" else "running"
    running = await suspending.undo_suspend(core, record, was)
    return f"{sandbox_id}: had ended" if running is None else await adopting.adopt(core, reaper, running)


async def watch(core: Core, reaper: Reaper, record: SandboxRecord) -> str | None:
    """A suspended sandbox expires only when that was asked for after it was suspended."""
    expires_at = record.sandbox.expires_at
    if expires_at is None:
        return None
    if expires_at <= core.clock.now():
        await teardown.remove(core, record, "expired")
        return f"{record.sandbox.id}: had expired"
    reaper.watch(record)
    return None


async def sweep(core: Core) -> list[str]:
    """Captures that nothing needs any more."""
    done = await _half_snapshots(core)
    suspended = await _suspended_ids(core)
    whole = {record.snapshot.id for record in await core.store.snapshots(None)}
    needed: dict[Place, set[str]] = {"captures": set(), "suspended": suspended, "snapshots": whole}
    for place, names in needed.items():
        for stranger in sorted(set(await core.captures.names(place)) - names):
            with contextlib.suppress(ClocheError):
                await core.captures.discard(place, stranger)
                done.append(f"removed {place}/{stranger}")
    return done


async def _half_snapshots(core: Core) -> list[str]:
    """Those that were being made or removed; not shown, and now not there."""
    done = []
    for record in await core.store.snapshots(None):
        if record.state != "ready":
            with contextlib.suppress(ClocheError):
                await core.captures.discard("snapshots", record.snapshot.id)
                await core.store.delete_snapshot(record.snapshot.id)
                done.append(f"{record.snapshot.id}: removed, it was {record.state}")
    return done


async def _suspended_ids(core: Core) -> set[str]:
    """Also of those that could not be mended: their capture may be all that is left of them."""
    found: set[str] = set()
    cursor = None
    while True:
        page = await core.store.select(None, SandboxQuery(limit=MAX_PAGE, cursor=cursor))
        found |= {record.sandbox.id for record in page if record.suspended is not None}
        if len(page) < MAX_PAGE:
            return found
        cursor = page[-1].sandbox.id
