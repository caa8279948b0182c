"""What the fake engine has beyond the contract: failures on demand, and the honesty of its boxes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloche.engines.bench import Bench, bench
from cloche.engines.fake import FakeEngine
from cloche.engines.fake.box import MACHINES
from cloche.engines.fake.filesystem import Filesystem
from cloche.model.errors import (
    EngineError,
    InvalidError,
    LimitUnenforceableError,
    NoSpaceError,
    NotFoundError,
    SandboxDeadError,
    UnavailableError,
)
from cloche.model.limits import Limits
from cloche.model.process import ProcessSpec
from cloche.model.sandbox import SandboxSpec

pytestmark = pytest.mark.anyio


@pytest.fixture
async def boxes(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(FakeEngine, tmp_path) as made:
        yield made
    assert tmp_path not in MACHINES


def fake(boxes: Bench) -> FakeEngine:
    assert isinstance(boxes.engine, FakeEngine)
    return boxes.engine


@pytest.mark.parametrize("stage", ["create", "create:half"])
async def test_a_create_that_fails_can_be_removed_and_tried_again(boxes: Bench, stage: str) -> None:
    fake(boxes).fail_next(stage, NoSpaceError("no room"))
    box = boxes.plan()
    with pytest.raises(NoSpaceError):
        await boxes.engine.create(box)
    with pytest.raises(SandboxDeadError):
        await boxes.engine.open_channel(box)
    await boxes.engine.remove(box)
    await boxes.engine.create(box)


async def test_a_box_cannot_be_made_twice(boxes: Bench) -> None:
    sandbox = await boxes.create()
    with pytest.raises(EngineError):
        await boxes.engine.create(sandbox.box)
    with pytest.raises(EngineError):
        await boxes.engine.start(sandbox.box)


async def test_a_disk_that_was_not_kept_cannot_be_started(boxes: Bench) -> None:
    sandbox = await boxes.create()
    await boxes.engine.stop(sandbox.box, keep_disk=False)
    with pytest.raises(EngineError):
        await boxes.engine.start(sandbox.box)


async def test_a_guest_that_dies_keeps_its_first_reason(boxes: Bench) -> None:
    sandbox = await boxes.create()
    fake(boxes).kill_guest(sandbox.box.sandbox_id, "out_of_memory")
    await boxes.engine.stop(sandbox.box, keep_disk=True)
    assert (await boxes.engine.status(sandbox.box)).reason == "out_of_memory"
    with pytest.raises(SandboxDeadError):
        await boxes.engine.pause(sandbox.box)


async def test_a_full_disk(boxes: Bench) -> None:
    sandbox = await boxes.create()
    fake(boxes).fill_disk(sandbox.box.sandbox_id)
    with pytest.raises(NoSpaceError):
        await sandbox.guest.write_file("a", b"x")


async def test_a_second_engine_finds_the_boxes(boxes: Bench) -> None:
    sandbox = await boxes.create()
    other = FakeEngine(boxes.home)
    assert (await other.status(sandbox.box)).status == "running"
    assert (await FakeEngine(boxes.home / "elsewhere").status(sandbox.box)).status == "gone"


@pytest.mark.parametrize(
    "spec",
    [
        SandboxSpec(image="debian"),
        SandboxSpec(isolation="vm"),
        SandboxSpec(host_paths=["/opt"]),
        SandboxSpec(user="root"),
    ],
)
async def test_refusals(boxes: Bench, spec: SandboxSpec) -> None:
    with pytest.raises(UnavailableError) as caught:
        boxes.plan(spec)
    assert caught.value.remedy


async def test_a_limit_that_cannot_hold_is_named(boxes: Bench) -> None:
    with pytest.raises(LimitUnenforceableError) as caught:
        boxes.plan(SandboxSpec(limits=Limits(memory_mib=64, pids=8, cpus=1)))
    assert caught.value.details["limits"] == ["cpus", "memory"]


async def test_a_frozen_process_does_not_end(boxes: Bench) -> None:
    sandbox = await boxes.create()
    process = await sandbox.guest.start_process(ProcessSpec(argv=["sleep", "0.05"]))
    await boxes.engine.pause(sandbox.box)
    waiting = asyncio.ensure_future(sandbox.guest.wait_process(process.id, 10))
    done, _ = await asyncio.wait({waiting}, timeout=0.2)
    assert not done
    await boxes.engine.resume(sandbox.box)
    assert (await asyncio.wait_for(waiting, 5)).exit_code == 0


@pytest.mark.parametrize(
    ("argv", "code", "out"),
    [
        (["kill-self", "TERM"], 143, b""),
        (["kill-self", "9"], 137, b""),
        (["echo", "-n", "a", "b"], 0, b"a b"),
        (["/bin/echo", "a"], 0, b"a\n"),
        (["/opt/echo", "a"], 127, b""),
        (["cat", "/missing"], 1, b""),
        (["cat", "/etc"], 1, b""),
        (["sleep", "x"], 1, b""),
        (["sh", "-c", "true; nonsense"], 127, b""),
        (["sh", "-c", "echo 'a b'; exit 258"], 2, b"a b\n"),
    ],
)
async def test_commands(boxes: Bench, argv: list[str], code: int, out: bytes) -> None:
    sandbox = await boxes.create()
    done = await sandbox.exec(*argv)
    assert (done.info.exit_code, done.stdout) == (code, out)


def test_paths_are_walked_as_a_kernel_does() -> None:
    files = Filesystem(1 << 20)
    files.make_dir("a/b", parents=True)
    files.symlink("a/up", "..")
    files.symlink("loop", "loop")
    files.write("a/up/../user/f", b"x")
    assert files.find("~/f").existing().data == b"x"
    assert files.find("/../../home/user/f").path == "/home/user/f"
    with pytest.raises(InvalidError):
        files.find("loop")
    with pytest.raises(InvalidError):
        files.find("f/below")
    with pytest.raises(NotFoundError):
        files.find("missing/below")
    with pytest.raises(InvalidError):
        files.move("a", "a/b/c")
    with pytest.raises(InvalidError):
        files.write("n" * 256, b"")
