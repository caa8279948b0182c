"""Members of a pool: whole running sandboxes that are nobody's yet, made as every sandbox is and given to somebody by
one write into the store.

Until that write they are rows of the pool, whatever has been done to them: a node that is killed at any moment leaves
either a member, which the next start removes, or a sandbox that is complete."""

from __future__ import annotations

import contextlib

import msgspec

from cloche.engines.base import Engine
from cloche.model.errors import ClocheError
from cloche.model.limits import ResolvedLimits
from cloche.model.pool import POOL_PROJECT, PoolPlan
from cloche.model.sandbox import SandboxRecord, SandboxSpec
from cloche.service import bringup, teardown, warming
from cloche.service.core import Core
from cloche.service.shelves import ASSUMED_BYTES, Member
from cloche.service.steps import Steps


async def make(core: Core, plan: PoolPlan) -> Member:
    """Raises ClocheError and OSError, and then nothing is left."""
    engine = core.engines.get(plan.key.engine)
    planned = bringup.new_record(core, _plain(plan.spec), engine, await engine.capabilities(), POOL_PROJECT)
    record = msgspec.structs.replace(planned, pool_key=plan.key.digest())
    async with (
        core.locks.hold(record.sandbox.id),
        bringup.undoing(core, "fill", record.sandbox.id) as steps,
    ):
        record = await _make(core, engine, record, plan, steps)
        # whoever gives up while it is measured takes it away, as nobody else knows of it yet
        return Member(record, memory_bytes=await measured(core, record))


def _plain(spec: SandboxSpec) -> SandboxSpec:
    """Without what is given late."""
    return msgspec.structs.replace(
        spec, labels={}, ttl_seconds=None, idle_timeout_seconds=None, egress=None, secrets=[]
    )


async def _make(core: Core, engine: Engine, record: SandboxRecord, plan: PoolPlan, steps: Steps) -> SandboxRecord:
    await bringup.build(core, engine, record, steps)
    await bringup.meet(core, record, steps)
    if plan.key.contexts:
        guest = await core.guests.get(record)
        await bringup.configure(record.sandbox, guest, {})
        await warming.warm(guest, plan.key.contexts)
        await steps.reached("contexts_warmed")
    made = await core.store.transition(record.sandbox.id, bringup.CREATING, "running", started_at=core.clock.now())
    await steps.reached("committed")
    return made


async def measured(core: Core, record: SandboxRecord) -> int:
    """What a member uses now: by its cgroup, else by what its guest sees; where neither tells, what it may use."""
    with contextlib.suppress(ClocheError, OSError):
        usage = await core.boxes.engine(record).usage(core.boxes.box(record))
        if usage.memory_bytes is not None:
            return usage.memory_bytes
        inside = await (await core.guests.get(record)).stats()
        if inside.memory_bytes is not None:
            # the guest counts processes without itself, and the disk is memory too
            return inside.memory_bytes + (inside.disk_bytes or 0) + ASSUMED_BYTES
    return record.sandbox.limits.memory_mib << 20


async def remove(core: Core, record: SandboxRecord) -> None:
    """Take a member away; nothing is told of it, as nobody knew of it."""
    async with core.locks.hold(record.sandbox.id):
        await teardown.finish_remove(core, record, "pool")


def refused_limits(core: Core, engine: Engine, member: Member, limits: ResolvedLimits, late: bool) -> list[str]:
    """The limits that this member cannot be given any more."""
    before = member.record.sandbox.limits
    changed = [name for name in before.__struct_fields__ if getattr(before, name) != getattr(limits, name)]
    if not set(changed) - {"open_files"}:
        return []
    return engine.fixed_limits(core.boxes.box(member.record), limits) if late else changed


async def hand_over(
    core: Core, engine: Engine, member: Member, asked: SandboxRecord, session_env: dict[str, str]
) -> SandboxRecord:
    """Make of the member what was asked for. Raises what went wrong, and then nothing of the member is left."""
    sandbox_id = member.record.sandbox.id
    async with core.locks.hold(sandbox_id), bringup.undoing(core, "claim", sandbox_id) as steps:
        steps.undo(lambda: teardown.finish_remove(core, member.record, "pool"))
        record = await _late(core, engine, member.record, asked, session_env, steps)
        event = core.event(record, "created", name=record.sandbox.name, engine=engine.name, pool=True)
        claimed = await core.store.claim(member.record.pool_key or "", record, event)
        await steps.reached("committed")
        return claimed


async def _late(
    core: Core, engine: Engine, member: SandboxRecord, asked: SandboxRecord, session_env: dict[str, str], steps: Steps
) -> SandboxRecord:
    """Everything that a sandbox is given late; the row of what it then is."""
    record, sandbox = _become(core, member, asked), asked.sandbox
    core.door.expect(sandbox.spec)
    if sandbox.limits != member.sandbox.limits:
        engine_state = await engine.set_limits(core.boxes.box(member), sandbox.limits)
        record = msgspec.structs.replace(record, engine_state=engine_state)
        await steps.reached("limits_set")
    if sandbox.expires_at is not None:
        await engine.set_deadline(core.boxes.box(record), sandbox.expires_at)
        await steps.reached("deadline_set")
    await bringup.admit(core, record, session_env, steps)
    await steps.reached("guest_configured")
    return record


def _become(core: Core, member: SandboxRecord, asked: SandboxRecord) -> SandboxRecord:
    sandbox = msgspec.structs.replace(asked.sandbox, id=member.sandbox.id, state="running", started_at=core.clock.now())
    return SandboxRecord(sandbox=sandbox, engine_state=member.engine_state)
