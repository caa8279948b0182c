"""A node that was killed and started again."""

import pytest

from cloche.model.errors import EngineError
from cloche.model.process import ProcessSpec
from cloche.store.sqlite import SqliteStore
from tests.unit.service.place import Place

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(tmp_path):
    async with Place(tmp_path, await SqliteStore.open(tmp_path / "db")) as made:
        yield made


async def test_what_runs_is_adopted_with_its_processes(place):
    made = await place.create("a", ttl_seconds=1000)
    process = await place.services.processes.start("a", ProcessSpec(argv=["sleep", "1000"]))
    assert await place.restart() == [f"{made.id}: adopted, running"]
    assert (await place.services.processes.get("a", process.id)).state == "running"
    assert place.services.reaper.living() == 1
    place.engine.kill_guest(made.id)


async def test_what_died_meanwhile_is_said(place):
    made = await place.create("a")
    await place.services.reaper.close()
    place.engine.kill_guest(made.id, "out_of_memory", 137)
    await place.restart()
    found = await place.services.sandboxes.get("a")
    assert (found.state, found.reason, found.exit_code) == ("failed", "out_of_memory", 137)


async def test_what_is_gone_is_failed(place):
    made = await place.create("a")
    await place.services.reaper.close()
    place.engine._discard(made.id)
    await place.restart()
    found = await place.services.sandboxes.get("a")
    assert (found.state, found.reason) == ("failed", "gone")
    await place.services.sandboxes.remove("a")


async def test_what_expired_meanwhile_is_removed(place):
    made = await place.create("a")
    await place.services.reaper.close()
    place.engine.kill_guest(made.id, "expired")
    await place.restart()
    assert place.left() == []


async def test_a_row_that_missed_the_engines_pause_is_put_right(place):
    made = await place.create("a")
    await place.engine.pause(place.services._core.boxes.box(await place.store.get(made.id)))
    await place.restart()
    assert (await place.services.sandboxes.get("a")).state == "paused"
    await place.services.sandboxes.resume("a")


async def test_another_guest_in_its_place_is_not_adopted(place):
    made = await place.create("a")
    place.engine._boxes[made.id]._guest.sandbox_id = "sb_another"
    await place.restart()
    found = await place.services.sandboxes.get("a")
    assert (found.state, found.reason) == ("failed", "guest_lost")


async def test_one_that_cannot_be_mended_does_not_keep_the_others(place):
    broken, whole = await place.create("a"), await place.create("b")
    await place.services.reaper.close()
    place.engine.kill_guest(broken.id)
    place.make()
    place.engine.fail_next("stop", EngineError("no", stage="stop"))
    await place.services.recover()
    assert (await place.services.sandboxes.get("a")).reason == "recovery_failed"
    assert (await place.services.sandboxes.get("b")).id == whole.id
    assert place.services.reaper.living() == 1


async def test_strangers_are_swept(place):
    stranger = "sb_01" + "0" * 24
    (place.home / "run" / stranger / "x").mkdir(parents=True)
    (place.home / "sandboxes" / "not-ours").mkdir(parents=True)
    assert await place.restart() == [f"removed the directories of {stranger}"]
    assert place.left() == ["not-ours"]
