"""From nothing, or from a stopped disk, to a running sandbox."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from cloche.engines.base import Box, Capabilities, Engine
from cloche.guest_api import Guest, GuestHealth
from cloche.model.errors import GuestError, LimitUnenforceableError
from cloche.model.ids import new_sandbox_id
from cloche.model.lifecycle import State
from cloche.model.sandbox import Sandbox, SandboxRecord, SandboxSpec, check_env
from cloche.model.template import WarmContext
from cloche.service import warming
from cloche.service.core import Core
from cloche.service.door import together
from cloche.service.steps import Steps, to_the_end

LIMIT_NAMES = ("memory", "cpus", "pids", "disk", "open_files")
Make = Callable[[Box], Coroutine[Any, Any, None]]
CREATING: frozenset[State] = frozenset({"creating"})


async def create(
    core: Core, spec: SandboxSpec, session_env: dict[str, str], project_id: str, contexts: Sequence[WarmContext] = ()
) -> SandboxRecord:
    """All or nothing: whatever fails, or whoever cancels, nothing of the sandbox stays."""
    spec.check()
    check_env(session_env)
    engine = await core.engines.choose(spec.engine, spec.isolation)
    record = new_record(core, spec, engine, await engine.capabilities(), project_id)
    core.door.expect(spec)
    async with core.locks.hold(record.sandbox.id), undoing(core, "create", record.sandbox.id) as steps:
        return await _make(core, engine, record, session_env, contexts, steps)


def undoing(core: Core, operation: str, sandbox_id: str) -> Steps:
    """Steps of a sandbox that is to be gone, row and all, when they fail; `failed` when even that does."""

    async def stuck() -> None:
        await core.store.transition(sandbox_id, frozenset({"creating", "running"}), "failed", reason="undo_failed")

    return Steps(operation, core.observer, stuck)


def new_record(
    core: Core, spec: SandboxSpec, engine: Engine, capabilities: Capabilities, project_id: str
) -> SandboxRecord:
    """The row of a sandbox to be made. Raises what the engine's plan raises, and LimitUnenforceableError."""
    now, sandbox_id = core.clock.now(), new_sandbox_id()
    # first, because an engine knows best why it cannot and what would help
    engine_state = engine.plan(sandbox_id, spec)
    unenforced = unenforced_limits(spec, capabilities)
    sandbox = Sandbox(
        id=sandbox_id, project_id=project_id, name=spec.name, state="creating", reason=None, engine=engine.name,
        isolation=capabilities.isolation, spec=spec, limits=spec.limits.resolved(), limits_unenforced=unenforced,
        labels=spec.labels, created_at=now, started_at=None, expires_at=expiry(spec, now), stopped_at=None,
    )  # fmt: skip
    return SandboxRecord(sandbox=sandbox, engine_state=engine_state)


def unenforced_limits(spec: SandboxSpec, capabilities: Capabilities) -> list[str]:
    """Defaults that do not hold here. Raises LimitUnenforceableError when one of them was asked for."""
    missing = [name for name in LIMIT_NAMES if name not in capabilities.limits_enforced]
    refused = [name for name in missing if name in spec.limits.asked()]
    if refused:
        raise LimitUnenforceableError(
            f"this machine cannot enforce a limit of {', '.join(refused)}", remedy="cloche doctor", limits=refused
        )
    return missing


def expiry(spec: SandboxSpec, now: float) -> float | None:
    return None if spec.ttl_seconds is None else now + spec.ttl_seconds


async def _make(
    core: Core, engine: Engine, record: SandboxRecord, session_env: dict[str, str], contexts: Sequence[WarmContext],
    steps: Steps,
) -> SandboxRecord:  # fmt: skip
    await build(core, engine, record, steps)
    await _greet(core, record, session_env, steps)
    if contexts:
        await warming.warm(await core.guests.get(record), contexts)
        await steps.reached("contexts_warmed")
    event = core.event(record, "created", name=record.sandbox.name, engine=engine.name)
    running = await core.store.transition(
        record.sandbox.id, CREATING, "running", started_at=core.clock.now(), event=event
    )
    await steps.reached("committed")
    return running


async def build(core: Core, engine: Engine, record: SandboxRecord, steps: Steps, make: Make | None = None) -> None:
    """Row, directories and box, each with its undo. `make`: another way to a box than the engine's `create`."""
    sandbox_id, box = record.sandbox.id, core.boxes.box(record)
    steps.undo(lambda: _unwrite(core, sandbox_id))
    await core.store.insert(record, core.intent(sandbox_id, "create", "row_written"))
    await steps.reached("row_written")
    steps.undo(lambda: core.boxes.discard(sandbox_id))
    await to_the_end(core.boxes.make(sandbox_id))
    await steps.reached("directories_made")
    steps.undo(lambda: engine.remove(box))
    # a box that is made while it is taken away would be half of each
    await to_the_end((make or engine.create)(box))
    await steps.reached("engine_created")


async def _unwrite(core: Core, sandbox_id: str) -> None:
    await core.store.delete(sandbox_id)
    core.door.forget(sandbox_id)


async def _greet(core: Core, record: SandboxRecord, session_env: dict[str, str], steps: Steps) -> None:
    await meet(core, record, steps)
    await admit(core, record, session_env, steps)
    await steps.reached("guest_configured")


async def admit(core: Core, record: SandboxRecord, session_env: dict[str, str], steps: Steps) -> None:
    """What every process to come has and may reach, before the first of them."""
    steps.undo(lambda: core.door.close(record.sandbox.id))
    configuring = configure(record.sandbox, await core.guests.get(record), session_env)
    if record.sandbox.spec.egress is not None:
        await together(configuring, core.door.open(record))
    else:
        await configuring
        await core.door.open(record)


async def meet(core: Core, record: SandboxRecord, steps: Steps) -> None:
    """Open the way in, and see that it leads to the guest that was made."""
    steps.undo(lambda: core.guests.close(record.sandbox.id))
    guest = await core.guests.get(record)
    require_identity(await guest.health(), record)
    await steps.reached("guest_answered")


async def configure(sandbox: Sandbox, guest: Guest, session_env: dict[str, str]) -> None:
    """What the guest gives to every process to come."""
    await guest.configure_session(
        sandbox.id, env=sandbox.spec.env, session_env=session_env, user=sandbox.spec.user,
        workdir=sandbox.spec.workdir, open_files=sandbox.limits.open_files, pids=sandbox.limits.pids,
    )  # fmt: skip


def require_identity(health: GuestHealth, record: SandboxRecord) -> None:
    """Raise GuestError when it is another sandbox that answers, or another life of this one."""
    nonce = record.engine_state.get("nonce", health.nonce)
    if health.sandbox_id != record.sandbox.id or health.nonce != nonce:
        raise GuestError(f"the guest of {record.sandbox.id} says that it is {health.sandbox_id[:64]!r}")


async def start(core: Core, record: SandboxRecord, session_env: dict[str, str]) -> SandboxRecord:
    """Run a stopped sandbox again; its time to live begins anew. When that fails it is stopped as before.
    The caller holds the lock."""
    check_env(session_env)
    before, engine = record.sandbox, core.boxes.engine(record)
    expires_at = expiry(before.spec, core.clock.now())
    intent = core.intent(before.id, "start", "row_written")
    record = await core.store.transition(
        before.id, frozenset({"stopped"}), "creating", intent=intent, reason=None, expires_at=expires_at
    )

    async def back() -> None:
        await core.store.transition(
            before.id, CREATING, "stopped", reason=before.reason, expires_at=None, exit_code=before.exit_code
        )

    async def stuck() -> None:
        await core.store.transition(before.id, CREATING, "failed", reason="undo_failed")

    async with Steps("start", core.observer, stuck) as steps:
        steps.undo(back)
        return await _restart(core, engine, record, session_env, steps)


async def _restart(
    core: Core, engine: Engine, record: SandboxRecord, session_env: dict[str, str], steps: Steps
) -> SandboxRecord:
    sandbox_id, box = record.sandbox.id, core.boxes.box(record)
    core.door.expect(record.sandbox.spec)
    await steps.reached("row_written")
    await core.boxes.make(sandbox_id)
    await steps.reached("directories_made")
    steps.undo(lambda: engine.stop(box, keep_disk=True))
    await engine.start(box)
    await steps.reached("engine_started")
    await _greet(core, record, session_env, steps)
    running = await core.store.transition(
        sandbox_id, CREATING, "running", started_at=core.clock.now(), stopped_at=None, exit_code=None,
        event=core.event(record, "started"),
    )  # fmt: skip
    await steps.reached("committed")
    return running
