"""The part of the engines' suite that is about captures: what is in them, who goes on from them, what is refused;
`conformance` passes it on."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path

import pytest

from cloche.engines.base import Manifest
from cloche.engines.bench import Bench, Sandbox, need
from cloche.model.errors import EngineError, UnavailableError
from cloche.model.process import ProcessSpec

#: nothing here takes this long on a machine that works
PATIENCE_SECONDS = 60.0


async def _captured(boxes: Bench, sandbox: Sandbox, name: str = "c", *, resume: bool = True) -> tuple[Path, Manifest]:
    directory = boxes.home / name
    directory.mkdir(0o700)
    manifest = await boxes.engine.capture(sandbox.box, str(directory), resume=resume)
    # it goes through the store
    return directory, json.loads(json.dumps(manifest))


def _flip(path: Path) -> None:
    """One bit, in place: a memory is large and sparse."""
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


async def _again(boxes: Bench, sandbox: Sandbox) -> Sandbox:
    """The way in anew: an engine may have given up the old one with the capture."""
    return await boxes.enter(sandbox.box, configure=False)


async def test_captures_are_refused_where_they_are_not_declared(boxes: Bench) -> None:
    if boxes.capabilities.memory_snapshot or boxes.capabilities.fork:
        pytest.skip("this engine declares captures")
    sandbox = await boxes.create()
    with pytest.raises(UnavailableError) as refused:
        await _captured(boxes, sandbox)
    assert refused.value.remedy
    with pytest.raises(UnavailableError):
        await boxes.restore(boxes.home / "c", {})
    assert (await sandbox.exec("echo", "alive")).stdout == b"alive\n"


async def test_a_capture_leaves_the_box_as_it_was(boxes: Bench) -> None:
    need(boxes.capabilities.memory_snapshot, "memory_snapshot")
    sandbox = await boxes.create()
    sleeper = await sandbox.guest.start_process(ProcessSpec(argv=["sleep", "1000"]))
    directory, manifest = await _captured(boxes, sandbox)
    assert isinstance(manifest["size_bytes"], int) and manifest["size_bytes"] > 0
    assert any(directory.iterdir())
    await boxes.engine.verify(str(directory), manifest)
    parent = await _again(boxes, sandbox)
    assert (await parent.guest.process(sleeper.id)).state == "running"
    assert (await parent.exec("echo", "on")).stdout == b"on\n"


async def test_a_fork_has_the_same_files_and_processes(boxes: Bench) -> None:
    need(boxes.capabilities.fork, "fork")
    sandbox = await boxes.create()
    await sandbox.guest.write_file("a", b"before")
    copier = await sandbox.guest.start_process(ProcessSpec(argv=["cat"], stdin=True))
    await sandbox.guest.write_stdin(copier.id, b"one ")
    directory, manifest = await _captured(boxes, sandbox)
    child = await boxes.restore(directory, manifest)
    assert await child.read("a") == b"before"
    assert (await child.guest.process(copier.id)).state == "running"
    await child.guest.write_stdin(copier.id, b"two", offset=4)
    await child.guest.close_stdin(copier.id)
    async with asyncio.timeout(PATIENCE_SECONDS), child.guest.output(copier.id, follow=True) as frames:
        said = b"".join([frame.payload async for frame in frames if frame.kind == 2])
    assert said == b"one two"


async def test_a_fork_is_another_sandbox(boxes: Bench) -> None:
    need(boxes.capabilities.fork, "fork")
    sandbox = await boxes.create()
    sleeper = await sandbox.guest.start_process(ProcessSpec(argv=["sleep", "1000"]))
    directory, manifest = await _captured(boxes, sandbox)
    one, other = await asyncio.gather(boxes.restore(directory, manifest), boxes.restore(directory, manifest))
    await one.guest.write_file("own", b"1")
    await one.guest.signal_process(sleeper.id, "KILL")
    parent = await _again(boxes, sandbox)
    for each in (other, parent):
        assert "own" not in await each.names(".")
        assert (await each.guest.process(sleeper.id)).state == "running"
    told = [await each.guest.health() for each in (parent, one, other)]
    assert [health.sandbox_id for health in told] == [each.box.sandbox_id for each in (parent, one, other)]
    assert len({health.nonce for health in told}) == 3
    await boxes.engine.verify(str(directory), manifest)


async def test_a_fork_keeps_its_session(boxes: Bench) -> None:
    need(boxes.capabilities.fork, "fork")
    sandbox = await boxes.create()
    await sandbox.guest.configure_session(sandbox.box.sandbox_id, env={"A": "1"}, session_env={"B": "2"})
    child = await boxes.restore(*await _captured(boxes, sandbox))
    lines = (await child.exec("env")).stdout.splitlines()
    assert b"A=1" in lines and b"B=2" in lines


async def test_a_fork_of_a_fork(boxes: Bench) -> None:
    need(boxes.capabilities.fork, "fork")
    sandbox = await boxes.create()
    sleeper = await sandbox.guest.start_process(ProcessSpec(argv=["sleep", "1000"]))
    child = await boxes.restore(*await _captured(boxes, sandbox))
    await child.guest.write_file("child", b"1")
    grandchild = await boxes.restore(*await _captured(boxes, child, "d"))
    assert await grandchild.read("child") == b"1"
    assert (await grandchild.guest.process(sleeper.id)).state == "running"


async def test_the_directory_may_go_when_the_box_runs(boxes: Bench) -> None:
    need(boxes.capabilities.fork, "fork")
    sandbox = await boxes.create()
    await sandbox.guest.write_file("large", bytes(range(256)) * 4096)
    directory, manifest = await _captured(boxes, sandbox)
    child = await boxes.restore(directory, manifest)
    shutil.rmtree(directory)
    assert await child.read("large") == bytes(range(256)) * 4096
    assert (await child.exec("echo", "on")).stdout == b"on\n"


async def test_a_paused_box_stays_paused_and_its_fork_runs(boxes: Bench) -> None:
    need(boxes.capabilities.fork and boxes.capabilities.pause, "fork and pause")
    sandbox = await boxes.create()
    await boxes.engine.pause(sandbox.box)
    directory, manifest = await _captured(boxes, sandbox)
    assert (await boxes.engine.status(sandbox.box)).status == "paused"
    child = await boxes.restore(directory, manifest)
    assert (await child.exec("echo", "on")).stdout == b"on\n"
    await boxes.engine.resume(sandbox.box)
    assert (await (await _again(boxes, sandbox)).exec("echo", "on")).stdout == b"on\n"


async def test_a_suspended_box_goes_on_under_its_own_name(boxes: Bench) -> None:
    need(boxes.capabilities.suspend, "suspend")
    sandbox = await boxes.create()
    await sandbox.guest.write_file("a", b"kept")
    asked = ProcessSpec(argv=["sleep", "1000"], env={"CLOCHE_FORK_SIGNAL": "TERM"})
    sleeper = await sandbox.guest.start_process(asked)
    directory, manifest = await _captured(boxes, sandbox, resume=False)
    await sandbox.close()
    await boxes.engine.remove(sandbox.box)
    assert (await boxes.engine.status(sandbox.box)).status == "gone"
    again = await boxes.restore(directory, manifest, forked=False, box=sandbox.box)
    assert (await again.guest.health()).sandbox_id == sandbox.box.sandbox_id
    assert await again.read("a") == b"kept"
    assert (await again.guest.process(sleeper.id)).state == "running"


async def test_processes_that_asked_for_it_are_told_of_a_fork(boxes: Bench) -> None:
    need(boxes.capabilities.fork, "fork")
    sandbox = await boxes.create()
    asked = ProcessSpec(argv=["sleep", "1000"], env={"CLOCHE_FORK_SIGNAL": "TERM"})
    sleeper = await sandbox.guest.start_process(asked)
    child = await boxes.restore(*await _captured(boxes, sandbox))
    async with asyncio.timeout(PATIENCE_SECONDS):
        ended = await child.guest.wait_process(sleeper.id)
    assert ended.signal == 15
    assert (await (await _again(boxes, sandbox)).guest.process(sleeper.id)).state == "running"


async def test_the_deadline_of_a_fork_is_its_own(boxes: Bench) -> None:
    need(boxes.capabilities.fork, "fork")
    sandbox = await boxes.create()
    directory, manifest = await _captured(boxes, sandbox)
    child = await boxes.restore(directory, manifest, deadline=time.time() + 1000)
    await boxes.engine.set_deadline(child.box, time.time())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await boxes.engine.wait(child.box)).reason == "expired"
    assert (await boxes.engine.status(sandbox.box)).status == "running"


async def test_a_damaged_capture_is_found_and_not_restored(boxes: Bench) -> None:
    need(boxes.capabilities.memory_snapshot, "memory_snapshot")
    sandbox = await boxes.create()
    directory, manifest = await _captured(boxes, sandbox)
    for path in sorted(directory.iterdir()):
        _flip(path)
        with pytest.raises(EngineError):
            await boxes.engine.verify(str(directory), manifest)
        _flip(path)
        await boxes.engine.verify(str(directory), manifest)
    path.unlink()
    with pytest.raises(EngineError):
        await boxes.engine.verify(str(directory), manifest)
    box = boxes.plan()
    with pytest.raises(EngineError):
        await boxes.engine.restore(box, str(directory), manifest, forked=True)
    await boxes.engine.remove(box)
    assert (await boxes.engine.status(box)).status == "gone"


async def test_a_capture_of_another_kind_of_machine_is_refused(boxes: Bench) -> None:
    need(boxes.capabilities.memory_snapshot, "memory_snapshot")
    sandbox = await boxes.create()
    directory, manifest = await _captured(boxes, sandbox)
    for foreign in ({}, {**manifest, "version": 999_999}):
        with pytest.raises((UnavailableError, EngineError)):
            await boxes.engine.verify(str(directory), foreign)
