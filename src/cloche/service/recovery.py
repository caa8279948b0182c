"""What a node does before its first request: adopt what still runs, and undo or finish what a crash has left."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from cloche.model.errors import ClocheError
from cloche.model.events import MAX_PAGE, SandboxQuery
from cloche.model.lifecycle import STATES
from cloche.model.sandbox import SandboxRecord
from cloche.service import adopting, resting, teardown
from cloche.service.core import Core
from cloche.service.reaper import Reaper
from cloche.store.base import Intent, Operation

#: sandboxes that are looked at side by side
AT_ONCE = 8
log = logging.getLogger("cloche.service")


async def recover(core: Core, reaper: Reaper) -> list[str]:
    """One line for each thing that was done."""
    intents = {intent.sandbox_id: intent for intent in await core.store.intents()}
    gate = asyncio.Semaphore(AT_ONCE)

    async def settle(record: SandboxRecord) -> str | None:
        async with gate, core.locks.hold(record.sandbox.id):
            return await _settle_or_fail(core, reaper, record, intents.get(record.sandbox.id))

    records = await _all_records(core)
    for record in records:
        if record.sandbox.state in teardown.ALIVE:
            core.door.expect(record.sandbox.spec)
    done = await asyncio.gather(*(settle(record) for record in records))
    return [line for line in done if line] + await _sweep(core)


async def _all_records(core: Core) -> list[SandboxRecord]:
    records: list[SandboxRecord] = []
    while True:
        cursor = records[-1].sandbox.id if records else None
        page = await core.store.select(None, SandboxQuery(limit=MAX_PAGE, cursor=cursor))
        records += page
        if len(page) < MAX_PAGE:
            return records


async def _settle_or_fail(core: Core, reaper: Reaper, record: SandboxRecord, intent: Intent | None) -> str | None:
    sandbox_id = record.sandbox.id
    try:
        step = intent.step if intent else ""
        return await _settle(core, reaper, record, intent.operation if intent else _implied(record), step)
    except Exception as error:
        # one sandbox that cannot be mended must not keep the node from serving the others
        log.exception("recovery of sandbox %s failed", sandbox_id)
        with contextlib.suppress(ClocheError):
            await core.store.transition(sandbox_id, frozenset(STATES), "failed", reason="recovery_failed")
        return f"{sandbox_id}: failed, {error}"


def _implied(record: SandboxRecord) -> Operation | None:
    """By the state alone, should an intent be missing."""
    sandbox = record.sandbox
    if record.suspended is not None and sandbox.state in ("creating", "stopping"):
        return "wake" if sandbox.state == "creating" else "suspend"
    if sandbox.state == "creating":
        return "create" if sandbox.started_at is None else "start"
    return "stop" if sandbox.state == "stopping" else None


async def _settle(
    core: Core, reaper: Reaper, record: SandboxRecord, operation: Operation | None, step: str
) -> str | None:
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
        case "suspend" | "wake" | "capture":
            return await resting.settle(core, reaper, record, operation, step)
    return await _go_on(core, reaper, record)


async def _go_on(core: Core, reaper: Reaper, record: SandboxRecord) -> str | None:
    """Nothing was under way."""
    if record.sandbox.state == "suspended":
        return await resting.watch(core, reaper, record)
    if record.sandbox.state in teardown.ALIVE:
        return await adopting.adopt(core, reaper, record)
    return None


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
    return done + await resting.sweep(core)
