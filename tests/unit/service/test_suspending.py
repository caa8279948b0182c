"""Suspend and resume: what is kept, what is refused meanwhile, what is left when something fails."""

import pytest

from cloche.model.errors import EngineError, NoSpaceError, UnavailableError, WrongStateError
from cloche.model.events import EventQuery
from cloche.model.process import ProcessSpec
from cloche.store.sqlite import SqliteStore
from tests.unit.service.place import Place, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(tmp_path):
    async with Place(tmp_path, await SqliteStore.open(tmp_path / "db")) as made:
        yield made


def kept(place):
    return sorted(path.name for path in (place.home / "suspended").glob("*"))


async def sleeper(place, name="a"):
    return await place.services.processes.start(name, ProcessSpec(argv=["sleep", "1000"]))


async def kinds(place):
    return [event.kind for event in (await place.store.history("default", EventQuery())).events]


async def test_a_suspended_sandbox_takes_nothing_and_goes_on_with_its_processes(place):
    made = await place.create("a", ttl_seconds=100)
    process = await sleeper(place)
    suspended = await place.services.sandboxes.suspend("a")
    assert (suspended.state, suspended.expires_at) == ("suspended", None)
    assert place.left() == [] and kept(place) == [made.id]
    assert place.services.reaper.living() == 0
    place.clock.forward(50)
    running = await place.services.sandboxes.resume("a")
    assert (running.state, running.expires_at) == ("running", place.clock.now() + 100)
    assert (await place.services.processes.get("a", process.id)).state == "running"
    assert kept(place) == [] and place.services.reaper.living() == 1
    assert await kinds(place) == ["sandbox.created", "sandbox.suspended", "sandbox.resumed"]


async def test_a_paused_one_can_be_suspended(place):
    await place.create("a")
    await place.services.sandboxes.pause("a")
    await place.services.sandboxes.suspend("a")
    assert (await place.services.sandboxes.resume("a")).state == "running"
    await sleeper(place)


async def test_what_a_suspended_one_cannot_do(place):
    await place.create("a")
    sandboxes = place.services.sandboxes
    await sandboxes.suspend("a")
    with pytest.raises(WrongStateError) as refused:
        await sleeper(place)
    assert refused.value.remedy == "cloche resume a"
    for operation in (sandboxes.start, sandboxes.stop, sandboxes.pause, sandboxes.suspend):
        with pytest.raises(WrongStateError) as refused:
            await operation("a")
        assert "cloche resume a" in refused.value.remedy
    assert (await sandboxes.stats("a")).memory_bytes is None
    assert (await sandboxes.get("a")).state == "suspended"


async def test_removing_a_suspended_one_removes_its_capture(place):
    await place.create("a")
    await place.services.sandboxes.suspend("a")
    await place.services.sandboxes.remove("a", force=False)
    assert kept(place) == [] and place.left() == []


async def test_it_does_not_expire_unless_it_is_extended(place):
    await place.create("a", ttl_seconds=10, idle_timeout_seconds=5)
    await place.services.sandboxes.suspend("a")
    place.clock.forward(1000)
    assert (await place.services.sandboxes.get("a")).state == "suspended"
    await place.services.sandboxes.extend("a", 60)
    place.clock.forward(30)
    await place.restart()
    assert (await place.services.sandboxes.get("a")).expires_at == place.clock.now() + 30
    place.clock.forward(31)

    async def gone():
        return not (await place.services.sandboxes.find()).sandboxes

    # files are removed by threads, which need more turns than what happens on the event loop alone
    await until(gone, turns=2_000_000)
    assert kept(place) == []


async def test_what_was_extended_while_suspended_keeps_that_deadline(place):
    await place.create("a", ttl_seconds=10)
    await place.services.sandboxes.suspend("a")
    extended = await place.services.sandboxes.extend("a", 500)
    assert (await place.services.sandboxes.resume("a")).expires_at == extended.expires_at


async def test_what_expired_while_no_node_lived_is_removed(place):
    await place.create("a")
    await place.services.sandboxes.suspend("a")
    await place.services.sandboxes.extend("a", 5)
    await place.services.reaper.close()
    place.clock.forward(6)
    await place.restart()
    assert (await place.services.sandboxes.find()).sandboxes == [] and kept(place) == []


async def test_it_stays_suspended_over_a_restart_of_the_node(place):
    made = await place.create("a")
    process = await sleeper(place)
    await place.services.sandboxes.suspend("a")
    assert await place.restart() == []
    assert kept(place) == [made.id]
    await place.services.sandboxes.resume("a")
    assert (await place.services.processes.get("a", process.id)).state == "running"


@pytest.mark.parametrize("stage", ["capture", "capture:half"])
@pytest.mark.parametrize("paused", [False, True])
async def test_a_capture_that_fails_lets_it_go_on(place, stage, paused):
    await place.create("a", ttl_seconds=100)
    if paused:
        await place.services.sandboxes.pause("a")
    place.engine.fail_next(stage, NoSpaceError("full"))
    with pytest.raises(NoSpaceError):
        await place.services.sandboxes.suspend("a")
    assert (await place.services.sandboxes.get("a")).state == ("paused" if paused else "running")
    assert kept(place) == [] and await place.store.intents() == []
    assert place.services.reaper.living() == 1
    if not paused:
        await sleeper(place)


@pytest.mark.parametrize("stage", ["restore", "restore:half", "open_channel"])
async def test_a_resume_that_fails_leaves_it_suspended(place, stage):
    made = await place.create("a")
    await place.services.sandboxes.suspend("a")
    place.engine.fail_next(stage, EngineError("broken", stage="restore"))
    with pytest.raises(EngineError):
        await place.services.sandboxes.resume("a")
    assert (await place.services.sandboxes.get("a")).state == "suspended"
    assert kept(place) == [made.id] and place.left() == [] and await place.store.intents() == []
    assert (await place.services.sandboxes.resume("a")).state == "running"


async def test_a_damaged_capture_is_said_and_kept(place):
    made = await place.create("a")
    await place.services.sandboxes.suspend("a")
    (place.home / "suspended" / made.id / "disk").write_bytes(b"")
    with pytest.raises(EngineError, match="damaged"):
        await place.services.sandboxes.resume("a")
    assert (await place.services.sandboxes.get("a")).state == "suspended"


async def test_a_box_that_cannot_be_removed_is_tried_again_by_the_next_node(place):
    await place.create("a")
    place.engine.fail_next("remove", EngineError("stuck", stage="remove"))
    with pytest.raises(EngineError):
        await place.services.sandboxes.suspend("a")
    assert (await place.services.sandboxes.get("a")).reason == "suspend_failed"
    assert [line.split(": ")[1] for line in await place.restart()] == ["finished its suspend"]
    assert (await place.services.sandboxes.resume("a")).state == "running"


async def test_an_engine_that_cannot_says_which_can(place, monkeypatch):
    import msgspec

    await place.create("a")
    able = await place.engine.capabilities()

    async def unable():
        return msgspec.structs.replace(able, suspend=False)

    monkeypatch.setattr(place.engine, "capabilities", unable)
    with pytest.raises(UnavailableError) as refused:
        await place.services.sandboxes.suspend("a")
    assert refused.value.message == "engine 'fake' cannot capture the memory of a sandbox"
    assert refused.value.remedy == "--engine vm"
    assert (await place.services.sandboxes.get("a")).state == "running"
