"""A node that was killed and started again."""

import asyncio
import contextlib

import pytest

from cloche.engines.fake import FakeEngine
from cloche.model.egress import EgressPolicy, EgressRule
from cloche.model.errors import EngineError, LimitHitError, TimedOutError
from cloche.model.process import ProcessSpec
from cloche.service import adopting, door_adoption
from cloche.store.sqlite import SqliteStore
from tests.unit.service.place import Place, until

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


class Silence:
    """Guests of the fake engine that do not answer until `over`."""

    def __init__(self, monkeypatch):
        self.over = False
        self.asked = 0
        opens = FakeEngine.open_channel

        async def open_channel(engine, box):
            self.asked += 1
            if not self.over:
                raise TimedOutError("the guest did not answer")
            return await opens(engine, box)

        monkeypatch.setattr(FakeEngine, "open_channel", open_channel)

    async def until_asked(self, place, times):
        """Time passes for whoever waits to ask again."""

        await self.until(place, lambda: self.asked >= times)

    async def until(self, place, holds):
        def held():
            place.clock.forward(adopting.AGAIN_SECONDS)
            return holds()

        await until(held)


def waits(place, sandbox_id):
    """The work that goes on for its sake."""
    return place.services.reaper._watched[sandbox_id].beside


async def test_a_silent_guest_has_time_to_answer(place, monkeypatch):
    made, silence = await place.create("a"), Silence(monkeypatch)
    assert await place.restart() == [f"{made.id}: adopted, its guest does not answer yet"]
    assert (await place.services.sandboxes.get("a")).state == "running"
    with pytest.raises(TimedOutError):
        await place.services.processes.start("a", ProcessSpec(argv=["true"]))
    waiting = waits(place, made.id)
    await silence.until_asked(place, 5)
    silence.over = True
    await silence.until_asked(place, silence.asked + 1)
    await waiting
    place.clock.forward(2 * adopting.SILENCE_SECONDS)
    await place.services.processes.start("a", ProcessSpec(argv=["true"]))
    assert (await place.services.sandboxes.get("a")).state == "running"


async def test_a_guest_that_stays_silent_is_lost(place, monkeypatch):
    made, silence = await place.create("a"), Silence(monkeypatch)
    await place.restart()
    waiting = waits(place, made.id)
    await silence.until_asked(place, 5)
    assert (await place.services.sandboxes.get("a")).state == "running"
    await silence.until(place, waiting.done)
    found = await place.services.sandboxes.get("a")
    assert (found.state, found.reason) == ("failed", "guest_lost")
    assert place.services.reaper.living() == 0


async def test_nobody_waits_for_a_silent_guest_that_was_removed(place, monkeypatch):
    made, silence = await place.create("a"), Silence(monkeypatch)
    await place.restart()
    waiting, asked = waits(place, made.id), silence.asked
    await place.services.sandboxes.remove("a")
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert silence.asked <= asked + 1
    assert place.left() == []


async def test_a_silent_guest_that_stands_still_is_paused(place, monkeypatch):
    made, silence = await place.create("a"), Silence(monkeypatch)
    await place.restart()
    waiting = waits(place, made.id)
    await place.engine.pause(place.services._core.boxes.box(await place.store.get(made.id)))
    await silence.until(place, waiting.done)
    assert (await place.services.sandboxes.get("a")).state == "paused"


async def test_a_silent_guest_that_somebody_pauses_is_open_when_it_goes_on(place, monkeypatch):
    made = await place.create("a", egress=EgressPolicy(rules=[EgressRule(hosts=["a.example"])]))
    silence = Silence(monkeypatch)
    monkeypatch.setattr(door_adoption, "RETRY_SECONDS", 0.0)
    await place.restart()
    waiting = waits(place, made.id)
    assert not place.services._core.door.is_open(made.id)
    await place.services.sandboxes.pause("a")
    await silence.until(place, waiting.done)
    silence.over = True
    await place.services.sandboxes.resume("a")
    await until(lambda: place.services._core.door.is_open(made.id))


async def test_a_node_without_descriptors_ends_nobody(place, monkeypatch):
    made, silence = await place.create("a"), Silence(monkeypatch)
    engine_open = FakeEngine.open_channel

    async def exhausted(engine, box):
        try:
            return await engine_open(engine, box)
        except TimedOutError:
            raise LimitHitError("no descriptor is left", limit="open_files") from None

    monkeypatch.setattr(FakeEngine, "open_channel", exhausted)
    await place.restart()
    waiting = waits(place, made.id)
    silence.over = True
    await silence.until_asked(place, silence.asked + 1)
    await waiting
    assert (await place.services.sandboxes.get("a")).state == "running"


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
