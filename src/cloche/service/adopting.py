"""What runs when a node starts becomes that node's, if it is what its row says.

One whose guest says nothing is adopted as well: what is in it may be all that somebody has, and a busy host is no
reason to end it. Its guest has minutes to answer; until then requests to it wait, or fail, as with any slow guest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Literal

from cloche.model.errors import ClocheError, LimitHitError, TimedOutError
from cloche.model.sandbox import SandboxRecord
from cloche.service import bringup, teardown
from cloche.service.core import Core
from cloche.service.reaper import Reaper
from cloche.service.steps import to_the_end

#: more than ten times what an emulated machine on a host with much to do needs; clients wait 20 s for a node
FIRST_SECONDS = 5.0
#: of one that was silent then: how long each time it is asked, how soon again, and when it is given up
ASKING_SECONDS = 15.0
AGAIN_SECONDS = 2.0
SILENCE_SECONDS = 300.0
#: what says nothing about the guest: it may be slow, or this node may have no descriptor left
_SILENT = (TimedOutError, LimitHitError)
Answer = Literal["itself", "silent", "lost"]
log = logging.getLogger("cloche.service")


async def adopt(core: Core, reaper: Reaper, record: SandboxRecord) -> str:
    """What was done. What has ended meanwhile, or does not answer as itself, is written down as that."""
    sandbox_id, engine, box = record.sandbox.id, core.boxes.engine(record), core.boxes.box(record)
    status = await engine.status(box)
    answer = await _answer(core, record, FIRST_SECONDS) if status.status == "running" else "itself"
    if answer == "lost":
        await teardown.end_lost(core, record)
        return f"{sandbox_id}: its guest does not answer as itself, so it was ended"
    if status.status not in ("running", "paused"):
        await teardown.ended(core, record, status)
        return f"{sandbox_id}: had ended ({status.reason or status.status})"
    if status.status != record.sandbox.state:
        # killed between the engine's pause or resume and the row
        record = await core.store.transition(sandbox_id, teardown.ALIVE, status.status)
    with contextlib.suppress(ClocheError):
        await engine.set_deadline(box, record.sandbox.expires_at)
    if answer == "itself":
        await core.door.adopt(record)
    reaper.watch(record)
    if answer == "silent":
        log.warning("sandbox %s runs and does not answer; it has %g s", sandbox_id, SILENCE_SECONDS)
        reaper.beside(sandbox_id, _wait_for(core, reaper, sandbox_id))
        return f"{sandbox_id}: adopted, its guest does not answer yet"
    return f"{sandbox_id}: adopted, {status.status}"


async def _answer(core: Core, record: SandboxRecord, seconds: float) -> Answer:
    try:
        guest = await core.guests.get(record)
        bringup.require_identity(await guest.health(seconds), record)
    except _SILENT as error:
        log.info("sandbox %s does not answer: %s", record.sandbox.id, error)
        # the next one who asks begins anew: a connection may lead nowhere
        await core.guests.close(record.sandbox.id)
        return "silent"
    except (ClocheError, OSError) as error:
        log.warning("sandbox %s cannot be adopted: %s", record.sandbox.id, error)
        return "lost"
    return "itself"


async def _wait_for(core: Core, reaper: Reaper, sandbox_id: str) -> None:
    until = core.clock.now() + SILENCE_SECONDS
    while (found := await _look(core, sandbox_id)) == "silent" and core.clock.now() < until:
        await core.clock.wait(asyncio.Event(), AGAIN_SECONDS)
    if found != "over":
        await to_the_end(_decided(core, reaper, sandbox_id, found))


async def _look(core: Core, sandbox_id: str) -> Answer | Literal["paused", "over"]:
    """ "over": somebody has ended it or put it aside, or its own end is being written down."""
    record = await core.store.get(sandbox_id)
    if record is None or record.sandbox.state not in ("running", "paused"):
        return "over"
    if record.sandbox.state == "paused":
        return "paused"
    try:
        # what a killed node has left standing still goes on by being asked
        status = await core.boxes.engine(record).status(core.boxes.box(record))
    except ClocheError as error:
        log.info("sandbox %s does not say what it does: %s", sandbox_id, error)
        return "silent"
    if status.status != "running":
        return "paused" if status.status == "paused" else "over"
    return await _answer(core, record, ASKING_SECONDS)


async def _decided(core: Core, reaper: Reaper, sandbox_id: str, found: Answer | Literal["paused"]) -> None:
    async with core.locks.hold(sandbox_id):
        record = await core.store.get(sandbox_id)
        if record is None or record.sandbox.state not in ("running", "paused"):
            return
        if found == "itself":
            log.info("sandbox %s answers now", sandbox_id)
        elif found == "paused" and record.sandbox.state == "running":
            record = await core.store.transition(sandbox_id, teardown.ALIVE, "paused")
            reaper.watch(record)
        elif record.sandbox.state == "running":
            reaper.forget(sandbox_id)
            await teardown.end_lost(core, record)
            return
        # whoever lets a paused one go on expects it to be open
        await core.door.adopt(record)
