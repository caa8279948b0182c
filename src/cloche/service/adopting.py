"""What runs when a node starts becomes that node's, if it is what its row says."""

from __future__ import annotations

import contextlib
import logging

from cloche.model.errors import ClocheError
from cloche.model.sandbox import SandboxRecord
from cloche.service import bringup, teardown
from cloche.service.core import Core
from cloche.service.reaper import Reaper

#: a machine on an emulated processor, on a host that has much to do, needs most of it; clients wait 20 s for a node
HEALTH_SECONDS = 15.0
log = logging.getLogger("cloche.service")


async def adopt(core: Core, reaper: Reaper, record: SandboxRecord) -> str:
    """What was done. What has ended meanwhile, or does not answer as itself, is written down as that."""
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
    await core.door.adopt(record)
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
