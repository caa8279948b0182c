"""What a node does before its first request: adopt what still runs, and undo or finish what a crash has left."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from cloche.model.errors import ClocheError
from cloche.model.events import MAX_PAGE, SandboxQuery
from cloche.model.lifecycle import STATES
from cloche.model.sandbox import SandboxRecord
from cloche.service import bringup, teardown
from cloche.service.core import Core
from cloche.service.reaper import Reaper
from cloche.store.base import Operation

#: sandboxes that are looked at side by side
AT_ONCE = 8
HEALTH_SECONDS = 10.0
log = logging.getLogger("cloche.service")


async def recover(core: Core, reaper: Reaper) -> list[str]:
    """One line for each thing that was done."""
    operations = {intent.sandbox_id: intent.operation for intent in await core.store.intents()}
    gate = asyncio.Semaphore(AT_ONCE)

    async def settle(record: SandboxRecord) -> str | None:
        async with gate, core.locks.hold(record.sandbox.id):
            return await _settle_or_fail(core, reaper, record, operations.get(record.sandbox.id))

    done = await asyncio.gather(*(settle(record) for record in await _all_records(core)))
    return [line for line in done if line] + await _sweep(core)


async def _all_records(core: Core) -> list[SandboxRecord]:
    records: list[SandboxRecord] = []
    while True:
        cursor = records[-1].sandbox.id if records else None
        page = await core.store.select(None, SandboxQuery(limit=MAX_PAGE, cursor=cursor))
        records += page
        if len(page) < MAX_PAGE:
            return records


async def _settle_or_fail(core: Core, reaper: Reaper, record: SandboxRecord, operation: Operation | None) -> str | None:
    sandbox_id = record.sandbox.id
    try:
        return await _settle(core, reaper, record, operation or _implied(record))
    except Exception as error:
        # one sandbox that cannot be mended must not keep the node from serving the others
        log.exception("recovery of sandbox %s failed", sandbox_id)
        with contextlib.suppress(ClocheError):
            await core.store.transition(sandbox_id, frozenset(STATES), "failed", reason="recovery_failed")
        return f"{sandbox_id}: failed, {error}"


def _implied(record: SandboxRecord) -> Operation | None:
    """By the state alone, should an intent be missing."""
    sandbox = record.sandbox
    if sandbox.state == "creating":
        return "create" if sandbox.started_at is None else "start"
    return "stop" if sandbox.state == "stopping" else None


async def _settle(core: Core, reaper: Reaper, record: SandboxRecord, operation: Operation | None) -> str | None:
    sandbox_id = record.sandbox.id
    if record.pool_key is not None:
        # it was nobody's; this node fills its own pools
        await teardown.finish_remove(core, record, "node_died")
        return f"{sandbox_id}: removed, it waited in a pool"
    match operation:
        case "create":
            await teardown.finish_remove(core, record, "node_died")
            return f"{sandbox_id}: undid its creation"
        case "remove":
            await teardown.finish_remove(core, record, "removed")
            return f"{sandbox_id}: finished its removal"
        case "start":
            await teardown.finish_stop(core, record, "node_died")
            return f"{sandbox_id}: undid its start"
        case "stop":
            await teardown.finish_stop(core, record)
            return f"{sandbox_id}: finished its stop"
    if record.sandbox.state in teardown.ALIVE:
        return await _adopt(core, reaper, record)
    return None


async def _adopt(core: Core, reaper: Reaper, record: SandboxRecord) -> str:
    sandbox_id, engine, box = record.sandbox.id, core.boxes.engine(record), core.boxes.box(record)
    status = await engine.status(box)
    if status.status == "running" and not await _answers(core, record):
        await teardown.end_lost(core, record)
        return f"{sandbox_id}: its guest does not answer, so it was ended"
    if status.status not in ("running", "paused"):
        await teardown.ended(core, record, status)
        return f"{sandbox_id}: had ended ({status.reason or status.status})"
    if status.status != record.sandbox.state:
        # killed between the engine's pause or resume and the row
        record = await core.store.transition(sandbox_id, teardown.ALIVE, status.status)
    with contextlib.suppress(ClocheError):
        await engine.set_deadline(box, record.sandbox.expires_at)
    reaper.watch(record)
    return f"{sandbox_id}: adopted, {status.status}"


async def _answers(core: Core, record: SandboxRecord) -> bool:
    try:
        guest = await core.guests.get(record)
        bringup.require_identity(await guest.health(HEALTH_SECONDS), record)
    except (ClocheError, OSError) as error:
        log.warning("sandbox %s cannot be adopted: %s", record.sandbox.id, error)
        return False
    return True


async def _sweep(core: Core) -> list[str]:
    """What belongs to this data directory and to no row."""
    known = frozenset(record.sandbox.id for record in await _all_records(core))
    done: list[str] = []
    for name in core.engines.names():
        try:
            done += [f"{name}: swept {what}" for what in await core.engines.get(name).sweep(known)]
        except ClocheError as error:
            log.info("engine %s was not swept: %s", name, error)
    for stranger in await core.boxes.strangers(known):
        with contextlib.suppress(ClocheError):
            await core.boxes.discard(stranger)
            done.append(f"removed the directories of {stranger}")
    return done
