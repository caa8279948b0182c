"""The life of a sandbox as the API offers it."""

import asyncio

import pytest

from cloche.model.errors import (
    AlreadyExistsError,
    EngineError,
    InvalidError,
    LimitUnenforceableError,
    NoSpaceError,
    NotFoundError,
    WrongStateError,
)
from cloche.model.events import SandboxQuery
from cloche.model.limits import Limits
from cloche.model.process import ProcessSpec
from cloche.model.sandbox import Mount, SandboxSpec

pytestmark = pytest.mark.anyio


async def rows(place):
    return (await place.services.sandboxes.find()).sandboxes


async def test_create_exec_remove(place):
    made = await place.create("a", ttl_seconds=60)
    assert (made.state, made.expires_at) == ("running", place.clock.now() + 60)
    assert made.limits_unenforced == ["memory", "cpus", "open_files"]
    info = await place.services.processes.start("a", ProcessSpec(argv=["true"]))
    assert info.argv == ["true"]
    assert (place.home / "run" / made.id).stat().st_mode & 0o777 == 0o700
    await place.services.sandboxes.remove("a")
    assert await rows(place) == [] and place.left() == []
    assert await place.store.intents() == []
    kinds = [event.kind for event in await place.services.sandboxes.events(made.id)]
    assert kinds == ["sandbox.created", "sandbox.removed"]
    assert place.points == [
        "create.row_written", "create.directories_made", "create.engine_created", "create.guest_answered",
        "create.guest_configured", "create.committed", "remove.marked", "remove.engine_removed",
        "remove.directories_removed", "remove.committed",
    ]  # fmt: skip


async def test_a_session_environment_reaches_processes_and_no_row(place):
    await place.services.sandboxes.create(SandboxSpec(name="a", env={"A": "1"}), session_env={"SECRET": "s3cr3t"})
    async with place.services.processes.follow("a", ProcessSpec(argv=["env"])) as reply:
        output = await reply.read()
    assert b"SECRET=s3cr3t" in output and b"A=1" in output
    assert "s3cr3t" not in repr(await place.store.get((await rows(place))[0].id))


@pytest.mark.parametrize("stage", ["create", "create:half", "open_channel"])
async def test_a_create_that_fails_leaves_nothing(place, stage):
    place.engine.fail_next(stage, EngineError("no", stage=stage))
    with pytest.raises(EngineError):
        await place.create("a")
    assert await rows(place) == [] and place.left() == [] and await place.store.intents() == []
    await place.create("a")


async def test_a_create_that_is_given_up_at_any_point_leaves_nothing(place):
    await place.create("first")
    points = [point for point in place.points if point.startswith("create.")]
    await place.services.sandboxes.remove("first")
    for point in points:
        await _give_up_at(place, point)
        assert await rows(place) == [] and place.left() == [], point
        assert await place.store.intents() == [], point


async def _give_up_at(place, point):
    there = asyncio.Event()

    async def hang(reached):
        if reached == point:
            there.set()
            await asyncio.Event().wait()

    place.services._core.observer = hang
    creating = asyncio.ensure_future(place.create("a"))
    await there.wait()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating


async def test_an_undo_that_fails_leaves_a_failed_sandbox_that_can_be_removed(place):
    place.engine.fail_next("create:half", EngineError("no", stage="create"))
    place.engine.fail_next("remove", EngineError("no", stage="remove"))
    with pytest.raises(EngineError) as failed:
        await place.create("a")
    assert "undoing it failed too" in failed.value.__notes__[0]
    (left,) = await rows(place)
    assert (left.state, left.reason) == ("failed", "undo_failed")
    await place.services.sandboxes.remove("a")
    assert await rows(place) == [] and place.left() == []


async def test_two_clients_create_the_same_name(place):
    outcomes = await asyncio.gather(*(place.create("a") for _ in range(5)), return_exceptions=True)
    won = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(won) == 1
    assert all(isinstance(outcome, AlreadyExistsError) for outcome in outcomes if outcome not in won)
    assert place.left() == [won[0].id]


async def test_a_limit_that_was_asked_for_and_cannot_hold_refuses(place):
    with pytest.raises(LimitUnenforceableError):
        await place.create("a", limits=Limits(memory_mib=64))
    assert place.points == [] and place.left() == []
    assert (await place.create("a", limits=Limits(pids=9))).limits.pids == 9


async def test_no_room_for_directories(place, monkeypatch):
    def full(*_args, **_kw):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.makedirs", full)
    with pytest.raises(NoSpaceError):
        await place.create("a")
    assert await rows(place) == []


async def test_stop_keeps_the_disk_and_start_finds_it(place):
    await place.create("a", ttl_seconds=60)
    async with place.services.files.forward("a", "PUT", "/content", query="path=x", body=b"kept") as reply:
        assert reply.status == 200, await reply.read()
    await place.services.processes.start("a", ProcessSpec(argv=["sleep", "1000"]))
    stopped = await place.services.sandboxes.stop("a", grace_seconds=1)
    assert (stopped.state, stopped.reason, stopped.expires_at) == ("stopped", "stopped", None)
    assert stopped.stopped_at == place.clock.now()
    with pytest.raises(WrongStateError) as refused:
        await place.services.processes.start("a", ProcessSpec(argv=["true"]))
    assert refused.value.remedy == "cloche start a"
    place.clock.forward(5)
    started = await place.services.sandboxes.start("a")
    assert (started.state, started.reason, started.stopped_at) == ("running", None, None)
    assert started.expires_at == place.clock.now() + 60
    async with place.services.files.forward("a", "GET", "/content", query="path=x") as reply:
        assert await reply.read() == b"kept"


@pytest.mark.parametrize("stage", ["start", "start:half", "open_channel"])
async def test_a_start_that_fails_leaves_it_stopped(place, stage):
    await place.create("a")
    before = await place.services.sandboxes.stop("a", grace_seconds=0)
    place.engine.fail_next(stage, EngineError("no", stage=stage))
    with pytest.raises(EngineError):
        await place.services.sandboxes.start("a")
    assert await place.services.sandboxes.get("a") == before
    assert await place.store.intents() == []
    assert (await place.services.sandboxes.start("a")).state == "running"


async def test_a_stop_or_remove_that_fails_is_said_and_can_be_tried_again(place):
    await place.create("a")
    place.engine.fail_next("stop", EngineError("no", stage="stop"))
    with pytest.raises(EngineError):
        await place.services.sandboxes.stop("a", grace_seconds=0)
    assert (await place.services.sandboxes.get("a")).reason == "stop_failed"
    place.engine.fail_next("remove", EngineError("no", stage="remove"))
    with pytest.raises(EngineError):
        await place.services.sandboxes.remove("a")
    assert (await place.services.sandboxes.get("a")).state == "failed"
    await place.services.sandboxes.remove("a")
    assert place.left() == []


async def test_pause_and_resume(place):
    await place.create("a")
    assert (await place.services.sandboxes.pause("a")).state == "paused"
    with pytest.raises(WrongStateError):
        await place.services.processes.start("a", ProcessSpec(argv=["true"]))
    assert (await place.services.sandboxes.stats("a")).processes is None
    assert (await place.services.sandboxes.resume("a")).state == "running"
    await place.services.processes.start("a", ProcessSpec(argv=["true"]))
    await place.services.sandboxes.pause("a")
    assert (await place.services.sandboxes.stop("a")).state == "stopped"


async def test_operations_on_one_sandbox_wait_for_each_other(place):
    await place.create("a")
    outcomes = await asyncio.gather(
        *(place.services.sandboxes.stop("a", grace_seconds=0) for _ in range(3)),
        place.services.sandboxes.remove("a"),
        place.services.sandboxes.remove("a"),
        return_exceptions=True,
    )
    assert [type(outcome).__name__ for outcome in outcomes[1:]] == [
        "WrongStateError", "WrongStateError", "NoneType", "NotFoundError",
    ]  # fmt: skip
    assert place.services._core.locks._locks == {}


async def test_remove_without_force_spares_the_living(place):
    await place.create("a")
    with pytest.raises(WrongStateError):
        await place.services.sandboxes.remove("a", force=False)
    await place.services.sandboxes.stop("a", grace_seconds=0)
    await place.services.sandboxes.remove("a", force=False)


async def test_references(place):
    one = await place.create("a")
    two = await place.create()
    for ref in (one.id, one.id.upper().replace("SB_", "sb_"), "a"):
        assert (await place.services.sandboxes.get(ref)).id == one.id
    with pytest.raises(InvalidError) as ambiguous:
        await place.services.sandboxes.get(one.id[:7])
    assert ambiguous.value.details["candidates"] == 2
    for missing in ("b", "sb_01", "sb_zzzzzz", ""):
        with pytest.raises(NotFoundError):
            await place.services.sandboxes.get(missing)
    # ids of the same millisecond differ in their last letters only
    await place.services.sandboxes.remove(one.id)
    assert (await place.services.sandboxes.get(two.id[:-1])).id == two.id


async def test_pages(place):
    made = [(await place.create(labels={"n": str(number % 2)})).id for number in range(5)]
    first = await place.services.sandboxes.find(SandboxQuery(limit=2))
    second = await place.services.sandboxes.find(SandboxQuery(limit=3, cursor=first.next_cursor))
    assert [sandbox.id for page in (first, second) for sandbox in page.sandboxes] == made
    assert second.next_cursor is None
    odd = await place.services.sandboxes.find(SandboxQuery(labels={"n": "1"}))
    assert [sandbox.id for sandbox in odd.sandboxes] == made[1::2]
    with pytest.raises(InvalidError):
        await place.services.sandboxes.find(SandboxQuery(limit=0))


@pytest.mark.parametrize("ttl_seconds", [0, -1, 1e12, float("nan")])
async def test_extend_refuses_what_is_no_time(place, ttl_seconds):
    await place.create("a")
    with pytest.raises(InvalidError):
        await place.services.sandboxes.extend("a", ttl_seconds)


async def test_process_prefixes(place):
    await place.create("a")
    info = await place.services.processes.start("a", ProcessSpec(argv=["sleep", "1000"]))
    assert (await place.services.processes.get("a", info.id[:10])).id == info.id
    for missing in ("p_", "p_zzzzzzz", info.id[:4], "p_" + "0" * 26):
        with pytest.raises(NotFoundError):
            await place.services.processes.get("a", missing)
    with pytest.raises(NotFoundError):
        async with place.services.processes.forward("a", "GET", "p_" + "0" * 26, "/wait"):
            pass


@pytest.mark.parametrize("path", ["/", "//.", "/proc", "/proc/1/root", "/./sys/"])
async def test_what_would_show_the_whole_host_is_not_mounted(place, path):
    with pytest.raises(InvalidError) as caught:
        await place.create("a", mounts=[Mount(source=path, target="/data")])
    assert caught.value.details["field"] == "mounts.source"
    assert "one by one" in caught.value.remedy


@pytest.mark.parametrize("path", ["/", "//", "/.", "/.cloche", "/.cloche/guest", "//.cloche/"])
async def test_what_a_sandbox_stands_on_cannot_be_hidden(place, path):
    with pytest.raises(InvalidError) as caught:
        await place.create("a", hide=[path])
    assert caught.value.details["field"] == "hide"
    await place.create("b", hide=["/.cloches", "/usr/bin/node"])


async def test_directories_that_nobody_may_enter_are_removed(place):
    made = await place.create("a")
    locked = place.home / "sandboxes" / made.id / "x" / "y"
    locked.mkdir(parents=True)
    (locked / "z").write_text("")
    locked.chmod(0)
    locked.parent.chmod(0)
    await place.services.sandboxes.remove("a")
    assert place.left() == []


async def test_what_is_mounted_below_is_never_deleted(place, monkeypatch):
    made = await place.create("a")
    below = str(place.home / "run" / made.id / "mnt")
    monkeypatch.setattr("cloche.service.boxes._mounts_below", lambda directory: [below] if "/run/" in directory else [])
    with pytest.raises(EngineError) as refused:
        await place.services.sandboxes.remove("a")
    assert refused.value.remedy == f"umount {below}"
    assert (place.home / "run" / made.id).is_dir()
