"""The part of the engines' suite that is about limits; `conformance` passes it on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import msgspec
import pytest

from cloche.engines.bench import Bench, need
from cloche.model.errors import NoSpaceError, NotFoundError
from cloche.model.limits import Limits
from cloche.model.process import ProcessSpec
from cloche.model.sandbox import SandboxSpec

MIB = 1 << 20


async def test_the_memory_limit_is_real(boxes: Bench) -> None:
    need("memory" in boxes.capabilities.limits_enforced, "the limit memory")
    sandbox = await boxes.create(SandboxSpec(limits=Limits(memory_mib=64)))
    hungry = await sandbox.exec("sh", "-c", "a=0123456789abcdef; while :; do a=$a$a; done")
    assert (hungry.info.exit_code, hungry.info.limit_hit) == (137, "memory")
    assert (await sandbox.exec("echo", "alive")).stdout == b"alive\n"


async def test_the_cpu_limit_is_real(boxes: Bench) -> None:
    need("cpus" in boxes.capabilities.limits_enforced, "the limit cpus")
    sandbox = await boxes.create(SandboxSpec(limits=Limits(cpus=0.2)))
    busy = (await sandbox.exec("sh", "-c", "while :; do :; done", timeout_seconds=2)).info
    assert busy.usage is not None
    assert busy.usage.cpu_seconds < 0.35 * busy.usage.wall_seconds


async def test_the_pids_limit_is_real(boxes: Bench) -> None:
    need("pids" in boxes.capabilities.limits_enforced, "the limit pids")
    sandbox = await boxes.create(SandboxSpec(limits=Limits(pids=16)))
    started = [await sandbox.guest.start_process(ProcessSpec(argv=["sleep", "1000"])) for _ in range(20)]
    refused = [info for info in started if info.state == "exited"]
    assert refused
    assert {info.limit_hit for info in refused} == {"pids"}
    await sandbox.guest.forget_process(started[0].id)
    assert (await sandbox.guest.health()).pid == 1


async def test_the_disk_limit_is_real(boxes: Bench) -> None:
    need("disk" in boxes.capabilities.limits_enforced, "the limit disk")
    sandbox = await boxes.create(SandboxSpec(limits=Limits(disk_mib=16)))

    async def too_much() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b"x" * MIB

    with pytest.raises(NoSpaceError):
        await sandbox.guest.write_file("large", too_much())
    with contextlib.suppress(NotFoundError):
        await sandbox.guest.remove("large")
    await sandbox.guest.write_file("small", b"x" * MIB)


async def test_limits_can_be_changed_late(boxes: Bench) -> None:
    need(boxes.capabilities.late_limits, "late_limits")
    sandbox = await boxes.create()
    before = sandbox.box.spec.limits.resolved()
    assert boxes.engine.fixed_limits(sandbox.box, before) == []
    enforced = boxes.capabilities.limits_enforced
    wanted = Limits(memory_mib=64 if "memory" in enforced else None, pids=before.pids - 1)
    spec = SandboxSpec(limits=wanted)
    assert boxes.engine.fixed_limits(sandbox.box, wanted.resolved()) == []
    state = json.loads(json.dumps(await boxes.engine.set_limits(sandbox.box, wanted.resolved())))
    changed = msgspec.structs.replace(sandbox.box, spec=spec, engine_state=state)
    assert (await boxes.engine.status(changed)).status == "running"
    if "memory" in enforced:
        hungry = await sandbox.exec("sh", "-c", "a=0123456789abcdef; while :; do a=$a$a; done")
        assert (hungry.info.exit_code, hungry.info.limit_hit) == (137, "memory")
    # up again, and beyond what it was made with
    more = Limits(memory_mib=2 * before.memory_mib if "memory" in enforced else None).resolved()
    await boxes.engine.set_limits(changed, more)
    assert (await sandbox.exec("echo", "alive")).stdout == b"alive\n"
    await boxes.engine.remove(changed)
    assert (await boxes.engine.status(sandbox.box)).status == "gone"


async def test_what_cannot_be_changed_late_is_said(boxes: Bench) -> None:
    need(boxes.capabilities.late_limits, "late_limits")
    sandbox = await boxes.create()
    before = sandbox.box.spec.limits.resolved()
    for name, field in (("disk", "disk_mib"), ("memory", "memory_mib"), ("cpus", "cpus"), ("pids", "pids")):
        other = msgspec.structs.replace(before, **{field: getattr(before, field) * 2})
        assert boxes.engine.fixed_limits(sandbox.box, other) in ([], [name])


async def test_the_open_files_limit_is_real(boxes: Bench) -> None:
    need("open_files" in boxes.capabilities.limits_enforced, "the limit open_files")
    sandbox = await boxes.create(SandboxSpec(limits=Limits(open_files=64)))
    assert (await sandbox.exec("sh", "-c", "ulimit -n")).stdout == b"64\n"


__all__ = [name for name in dir() if name.startswith("test_")]
