"""The suite that every engine must pass.

In a package of one's own: register the engine under the entry point group `cloche.engines`, put
`from cloche.engines.conformance import *` into a test module and `from cloche.engines.conformance import
pytest_addoption` into the top `conftest.py`, and run `pytest --engine NAME`. anyio's pytest plugin runs the tests.

They use the engine contract and the guest's wire, nothing else, and branch on declared capabilities only. Inside a
sandbox they need true, false, echo, cat, sleep, env, pwd and sh.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cloche.engines import registry
from cloche.engines.base import Box, Engine
from cloche.engines.bench import Bench, bench, need
from cloche.engines.conformance_captures import *  # noqa: F403
from cloche.engines.conformance_contexts import *  # noqa: F403
from cloche.engines.conformance_limits import *  # noqa: F403
from cloche.guest_api.frames import EXITED, STDOUT
from cloche.model.errors import (
    ClocheError,
    LimitUnenforceableError,
    NeedsSubuidError,
    NotFoundError,
    SandboxDeadError,
    TimedOutError,
    UnavailableError,
    WrongStateError,
)
from cloche.model.limits import Limits
from cloche.model.process import ProcessSpec
from cloche.model.sandbox import ISOLATION_ORDER, Mount, SandboxSpec

pytestmark = pytest.mark.anyio

LIMIT_VALUES = {"memory": {"memory_mib": 64}, "cpus": {"cpus": 0.5}, "pids": {"pids": 16}, "disk": {"disk_mib": 16},
                "open_files": {"open_files": 64}}  # fmt: skip
#: nothing here takes this long on a machine that works; it turns a hang into a failure
PATIENCE_SECONDS = 20.0
MIB = 1 << 20


def brief_seconds(boxes: Bench) -> float:
    """A box that is to end by its deadline must have been made before that, on an emulated processor as well."""
    return 3.0 if boxes.capabilities.isolation == "vm" else 1.5


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", default=None, metavar="NAME", help="the one engine to test; it must be usable here")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine_name" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--engine", default=None)
        metafunc.parametrize("engine_name", [asked] if asked else registry.names())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def build(engine_name: str, request: pytest.FixtureRequest) -> Callable[[Path], Engine]:
    try:
        return registry.load(engine_name)
    except UnavailableError as error:
        if request.config.getoption("--engine", default=None):
            raise
        pytest.skip(error.message)


@pytest.fixture
async def engine(build: Callable[[Path], Engine], tmp_path: Path, request: pytest.FixtureRequest) -> Engine:
    made = build(tmp_path)
    missing = [check for check in await made.check() if check.required and check.status == "missing"]
    if missing and not request.config.getoption("--engine", default=None):
        pytest.skip(f"engine {made.name} cannot run here: {missing[0].summary}")
    assert not missing, f"engine {made.name} was asked for and cannot run here: {missing[0].summary}"
    return made


@pytest.fixture
async def boxes(engine: Engine, build: Callable[[Path], Engine], tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(build, tmp_path) as made:
        yield made


async def test_check_and_capabilities_are_usable_words(boxes: Bench) -> None:
    checks = await boxes.engine.check()
    assert len({check.id for check in checks}) == len(checks)
    assert all(check.remedy for check in checks if check.status == "missing")
    assert boxes.capabilities.isolation in ISOLATION_ORDER
    assert boxes.capabilities.limits_enforced <= set(LIMIT_VALUES)


async def test_plan_has_no_effects(boxes: Bench) -> None:
    box = boxes.plan()
    assert json.loads(json.dumps(box.engine_state)) == box.engine_state
    assert not Path(box.run_dir).exists()
    assert not Path(box.state_dir).exists()
    assert (await boxes.engine.status(box)).status == "gone"
    assert await boxes.engine.sweep(frozenset()) == []


@pytest.mark.parametrize("limit", sorted(LIMIT_VALUES))
async def test_plan_refuses_a_limit_that_would_not_hold(boxes: Bench, limit: str) -> None:
    spec = SandboxSpec(limits=Limits(**LIMIT_VALUES[limit]))  # type: ignore[arg-type]
    if limit in boxes.capabilities.limits_enforced:
        boxes.plan(spec)
    else:
        with pytest.raises(LimitUnenforceableError):
            boxes.plan(spec)


async def test_plan_refuses_what_the_engine_does_not_declare(boxes: Bench) -> None:
    for isolation in ISOLATION_ORDER:
        if isolation != boxes.capabilities.isolation:
            with pytest.raises(UnavailableError):
                boxes.plan(SandboxSpec(isolation=isolation))
    if not boxes.capabilities.mounts:
        with pytest.raises(UnavailableError):
            boxes.plan(SandboxSpec(mounts=[Mount(source="/usr", target="/mnt")]))
    if not boxes.capabilities.many_users:
        with pytest.raises(NeedsSubuidError):
            boxes.plan(SandboxSpec(user="root"))


async def test_the_guest_is_the_one_that_was_made(boxes: Bench) -> None:
    sandbox = await boxes.create()
    health = await sandbox.guest.health()
    assert health.sandbox_id == sandbox.box.sandbox_id
    assert health.pid == 1
    assert (await boxes.engine.status(sandbox.box)).status == "running"


async def test_engine_state_is_not_changed_by_use(boxes: Bench) -> None:
    box = boxes.plan()
    before = json.dumps(box.engine_state, sort_keys=True)
    await boxes.engine.create(box)
    await boxes.engine.stop(box, keep_disk=False)
    assert json.dumps(box.engine_state, sort_keys=True) == before


async def test_exit_codes_are_the_commands_own(boxes: Bench) -> None:
    sandbox = await boxes.create()
    codes = [(await sandbox.exec("true")).info, (await sandbox.exec("false")).info,
             (await sandbox.exec("sh", "-c", "exit 7")).info]  # fmt: skip
    assert [info.exit_code for info in codes] == [0, 1, 7]
    assert all(info.signal is None and info.limit_hit is None and info.usage for info in codes)


async def test_a_command_that_cannot_start_is_a_result(boxes: Bench) -> None:
    sandbox = await boxes.create()
    missing = (await sandbox.exec("no-such-command-here")).info
    assert (missing.exit_code, missing.state) == (127, "exited")
    assert missing.error
    assert (await sandbox.exec("true", cwd="/no/such/directory")).info.exit_code == 126


async def test_signals_end_a_process_and_are_reported(boxes: Bench) -> None:
    sandbox = await boxes.create()
    for name, number in (("SIGTERM", 15), ("KILL", 9)):
        process = await sandbox.guest.start_process(ProcessSpec(argv=["sleep", "1000"]))
        await sandbox.guest.signal_process(process.id, name)
        ended = await sandbox.guest.wait_process(process.id, PATIENCE_SECONDS)
        assert (ended.exit_code, ended.signal) == (128 + number, number)
        with pytest.raises(WrongStateError):
            await sandbox.guest.signal_process(process.id, 15)


async def test_a_timeout_ends_a_process_with_124(boxes: Bench) -> None:
    sandbox = await boxes.create()
    info = (await sandbox.exec("sleep", "1000", timeout_seconds=0.2)).info
    assert (info.exit_code, info.limit_hit) == (124, "timeout")


async def test_environment_and_directory(boxes: Bench) -> None:
    sandbox = await boxes.create(SandboxSpec(env={"FROM_SPEC": "1", "BOTH": "spec"}))
    lines = (await sandbox.exec("env", env={"BOTH": "request"})).stdout.splitlines()
    assert {b"FROM_SPEC=1", b"BOTH=request", b"HOME=/home/user"} <= set(lines)
    assert (await sandbox.exec("pwd")).stdout == b"/home/user\n"
    assert (await sandbox.exec("pwd", cwd="/tmp")).stdout == b"/tmp\n"  # noqa: S108


async def test_input_and_binary_output(boxes: Bench) -> None:
    sandbox = await boxes.create()
    data = bytes(range(256)) * 1024
    done = await sandbox.exec("cat", stdin=data)
    assert done.stdout == data
    assert (await sandbox.exec("sh", "-c", "echo out; echo err >&2")).stderr == b"err\n"
    assert (await sandbox.exec("echo", "caf\udce9")).stdout == b"caf\xe9\n"


async def test_many_commands_at_once(boxes: Bench) -> None:
    sandbox = await boxes.create()
    done = await asyncio.gather(*(sandbox.exec("echo", str(number)) for number in range(20)))
    assert [each.stdout for each in done] == [f"{number}\n".encode() for number in range(20)]


async def test_files(boxes: Bench) -> None:
    sandbox = await boxes.create()
    data = bytes(range(256)) * 1024
    info = await sandbox.guest.write_file("made/by/test.bin", data)
    assert (info.type, info.size) == ("file", len(data))
    assert await sandbox.read("/home/user/made/by/test.bin") == data
    assert (await sandbox.exec("cat", "made/by/test.bin")).stdout == data
    async with sandbox.guest.read_file("made/by/test.bin", offset=250, length=10) as body:
        assert await body.read() == data[250:260]
    await sandbox.guest.make_dir("empty")
    await sandbox.guest.move("made/by/test.bin", "moved\n\udcff")
    assert {"made", "empty", "moved\n\udcff"} <= await sandbox.names(".")
    assert (await sandbox.guest.stat("empty")).type == "directory"
    await sandbox.guest.remove("made", recursive=True)
    with pytest.raises(NotFoundError):
        await sandbox.guest.stat("made")


async def test_trees_come_back_as_they_went(boxes: Bench) -> None:
    sandbox = await boxes.create()
    await sandbox.guest.write_file("tree/inner/file", b"content")
    async with sandbox.guest.tar_out("tree") as chunks:
        archive = b"".join([chunk async for chunk in chunks])
    await sandbox.guest.tar_in("copy", archive)
    assert await sandbox.read("copy/tree/inner/file") == b"content"


async def test_output_goes_on_over_a_new_channel(boxes: Bench) -> None:
    first = await boxes.create()
    process = await first.guest.start_process(ProcessSpec(argv=["cat"], stdin=True))
    assert await first.guest.write_stdin(process.id, b"one\n", offset=0) == 4
    async with first.guest.output(process.id, follow=True) as frames:
        assert (await anext(frames)).payload == b"one\n"
    await first.close()

    again = await boxes.enter(first.box, configure=False)
    assert await again.guest.write_stdin(process.id, b"one\ntwo\n", offset=0) == 8
    await again.guest.close_stdin(process.id)
    async with again.guest.output(process.id, stdout_offset=4, follow=True) as frames:
        found = [frame async for frame in frames]
    assert b"".join(frame.payload for frame in found if frame.kind == STDOUT) == b"two\n"
    assert (found[-1].kind, found[-1].process().exit_code) == (EXITED, 0)


async def test_a_new_engine_object_finds_what_runs(boxes: Bench) -> None:
    need(boxes.capabilities.survives_node, "survives_node")
    sandbox = await boxes.create()
    process = await sandbox.guest.start_process(ProcessSpec(argv=["sleep", "1000"]))
    await sandbox.close()
    other = boxes.build(boxes.home)
    assert (await other.status(sandbox.box)).status == "running"
    again = await boxes.enter(sandbox.box, other, configure=False)
    assert (await again.guest.process(process.id)).state == "running"
    await other.remove(sandbox.box)
    assert (await boxes.engine.status(sandbox.box)).status == "gone"


async def test_two_boxes_do_not_see_each_other(boxes: Bench) -> None:
    one, other = await boxes.create(), await boxes.create()
    for path in ("/home/user/mine", "/tmp/mine"):  # noqa: S108
        await one.guest.write_file(path, b"secret")
        with pytest.raises(NotFoundError):
            await other.guest.stat(path)
    await one.guest.start_process(ProcessSpec(argv=["sleep", "1000"]))
    assert await other.guest.list_processes() == []


async def test_stop_ends_everything_and_start_has_the_disk(boxes: Bench) -> None:
    need(boxes.capabilities.restart_keeps_disk, "restart_keeps_disk")
    sandbox = await boxes.create()
    await sandbox.guest.write_file("kept", b"over a stop")
    await sandbox.guest.start_process(ProcessSpec(argv=["sleep", "1000"]))
    await sandbox.guest.close()
    assert (await boxes.engine.stop(sandbox.box, keep_disk=True)).status == "exited"
    assert (await boxes.engine.status(sandbox.box)).status != "running"
    await boxes.engine.start(sandbox.box)
    again = await boxes.enter(sandbox.box)
    assert await again.read("kept") == b"over a stop"
    assert await again.guest.list_processes() == []


async def test_stop_is_safe_twice(boxes: Bench) -> None:
    sandbox = await boxes.create()
    await boxes.engine.stop(sandbox.box, keep_disk=False)
    await boxes.engine.stop(sandbox.box, keep_disk=False)
    assert (await boxes.engine.status(sandbox.box)).status in ("exited", "gone")


async def test_a_paused_box_is_silent_and_goes_on(boxes: Bench) -> None:
    sandbox = await boxes.create()
    if not boxes.capabilities.pause:
        with pytest.raises(UnavailableError):
            await boxes.engine.pause(sandbox.box)
        pytest.skip("this engine does not declare pause, and refuses it")
    await boxes.engine.pause(sandbox.box)
    assert (await boxes.engine.status(sandbox.box)).status == "paused"
    with pytest.raises(TimedOutError):
        await sandbox.guest.health(timeout_seconds=0.3)
    await boxes.engine.resume(sandbox.box)
    assert (await boxes.engine.status(sandbox.box)).status == "running"
    assert (await sandbox.exec("echo", "on")).stdout == b"on\n"


async def test_a_paused_box_can_be_removed(boxes: Bench) -> None:
    need(boxes.capabilities.pause, "pause")
    sandbox = await boxes.create()
    await boxes.engine.pause(sandbox.box)
    await boxes.engine.remove(sandbox.box)
    assert (await boxes.engine.status(sandbox.box)).status == "gone"


async def test_the_deadline_kills(boxes: Bench) -> None:
    sandbox = await boxes.create(deadline=time.time() + brief_seconds(boxes))
    ended = await asyncio.wait_for(boxes.engine.wait(sandbox.box), PATIENCE_SECONDS)
    assert (ended.status, ended.reason) == ("exited", "expired")
    assert (await boxes.engine.stop(sandbox.box, keep_disk=False)).reason == "expired"


async def test_the_deadline_kills_a_paused_box(boxes: Bench) -> None:
    need(boxes.capabilities.pause, "pause")
    sandbox = await boxes.create(deadline=time.time() + brief_seconds(boxes))
    await sandbox.guest.start_process(ProcessSpec(argv=["sleep", "1000"]))
    await boxes.engine.pause(sandbox.box)
    ended = await asyncio.wait_for(boxes.engine.wait(sandbox.box), PATIENCE_SECONDS)
    assert (ended.status, ended.reason) == ("exited", "expired")


async def test_the_deadline_can_be_moved(boxes: Bench) -> None:
    sandbox = await boxes.create(deadline=time.time() + brief_seconds(boxes))
    await boxes.engine.set_deadline(sandbox.box, None)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(boxes.engine.wait(sandbox.box), brief_seconds(boxes) + 0.5)
    await boxes.engine.set_deadline(sandbox.box, time.time() + 0.2)
    assert (await asyncio.wait_for(boxes.engine.wait(sandbox.box), PATIENCE_SECONDS)).reason == "expired"


async def test_a_guest_that_ends_is_seen_to_end(boxes: Bench) -> None:
    sandbox = await boxes.create()
    watching = asyncio.ensure_future(boxes.engine.wait(sandbox.box))
    await sandbox.guest.shutdown(grace_seconds=1)
    ended = await asyncio.wait_for(watching, PATIENCE_SECONDS)
    assert ended.status == "exited"
    assert ended.exit_code == 0
    assert (await boxes.engine.status(sandbox.box)).status == "exited"
    with pytest.raises(SandboxDeadError):
        await (await boxes.engine.open_channel(sandbox.box)).open()
    with pytest.raises(SandboxDeadError):
        await sandbox.guest.health()


async def test_a_request_in_flight_learns_that_the_box_died(boxes: Bench) -> None:
    sandbox = await boxes.create()
    async with sandbox.guest.follow_process(ProcessSpec(argv=["sleep", "1000"])) as frames:
        await anext(frames)
        await boxes.engine.stop(sandbox.box, keep_disk=False)
        with pytest.raises(SandboxDeadError):
            await asyncio.wait_for(anext(frames), PATIENCE_SECONDS)


async def test_remove_leaves_nothing_and_may_come_twice(boxes: Bench) -> None:
    sandbox = await boxes.create()
    await boxes.engine.remove(sandbox.box)
    await boxes.engine.remove(sandbox.box)
    assert (await boxes.engine.status(sandbox.box)).status == "gone"
    assert not Path(sandbox.box.run_dir).exists()
    assert not Path(sandbox.box.state_dir).exists()


async def test_remove_of_what_never_was(boxes: Bench) -> None:
    await boxes.engine.remove(boxes.plan())


@pytest.mark.parametrize("steps", [1, 5, 20])
async def test_remove_takes_what_is_half_made(boxes: Bench, steps: int) -> None:
    box = boxes.plan()
    making = asyncio.ensure_future(boxes.engine.create(box))
    for _ in range(steps):
        await asyncio.sleep(0)
    await _give_up(boxes, box, making)


@pytest.mark.parametrize("milliseconds", [1, 3, 10, 30])
async def test_remove_takes_what_was_given_up_after(boxes: Bench, milliseconds: int) -> None:
    box = boxes.plan()
    making = asyncio.ensure_future(boxes.engine.create(box))
    await asyncio.wait({making}, timeout=milliseconds / 1000)
    await _give_up(boxes, box, making)


async def _give_up(boxes: Bench, box: Box, making: asyncio.Future[None]) -> None:
    making.cancel()
    with contextlib.suppress(asyncio.CancelledError, ClocheError):
        await making
    await boxes.engine.remove(box)
    assert (await boxes.engine.status(box)).status == "gone"
    assert not Path(box.run_dir).exists()
    assert await boxes.engine.sweep(frozenset()) == []


async def test_sweep_removes_strangers_and_keeps_the_known(boxes: Bench) -> None:
    known, stranger = await boxes.create(), await boxes.create()
    assert await boxes.engine.sweep(frozenset({known.box.sandbox_id}))
    assert (await boxes.engine.status(stranger.box)).status == "gone"
    assert (await known.exec("echo", "here")).stdout == b"here\n"


async def test_usage_is_possible(boxes: Bench) -> None:
    sandbox = await boxes.create()
    usage = await boxes.engine.usage(sandbox.box)
    values = [getattr(usage, field) for field in usage.__struct_fields__]
    assert all(value is None or (math.isfinite(value) and value >= 0) for value in values)


__all__ = [name for name in dir() if name.startswith("test_")]
__all__ += ["anyio_backend", "boxes", "build", "engine", "pytest_generate_tests", "pytestmark"]
