"""What ends by itself: expired, idle and dead sandboxes."""

import pytest

from cloche.model.errors import EngineError, NotFoundError
from cloche.model.process import ProcessSpec
from tests.unit.service.place import until

pytestmark = pytest.mark.anyio


async def reason_of_removal(place, sandbox_id):
    return (await place.services.sandboxes.events(sandbox_id))[-1].data["reason"]


def gone(place, sandbox_id):
    async def is_gone():
        return await place.store.get(sandbox_id) is None and place.services.reaper.living() == 0

    return is_gone


async def test_expiry_removes(place):
    made = await place.create("a", ttl_seconds=30)
    place.clock.forward(29)
    assert place.services.reaper.living() == 1
    place.clock.forward(2)
    await until(gone(place, made.id))
    with pytest.raises(NotFoundError):
        await place.services.sandboxes.get("a")
    assert await reason_of_removal(place, made.id) == "expired"


async def test_extend_moves_expiry_both_ways_and_away(place):
    made = await place.create("a", ttl_seconds=30)
    extended = await place.services.sandboxes.extend("a", 100)
    assert extended.expires_at == place.clock.now() + 100
    place.clock.forward(50)
    await until(lambda: place.clock.asked[-1] is not None)
    assert (await place.services.sandboxes.get("a")).state == "running"
    await place.services.sandboxes.extend("a", None)
    place.clock.forward(1000)
    assert (await place.services.sandboxes.get("a")).expires_at is None
    await place.services.sandboxes.extend("a", 5)
    place.clock.forward(6)
    await until(gone(place, made.id))


async def test_idle_is_counted_from_the_last_use(place):
    made = await place.create("a", idle_timeout_seconds=10)
    place.clock.forward(9)
    await place.services.processes.start("a", ProcessSpec(argv=["true"]))
    place.clock.forward(9)
    assert (await place.services.sandboxes.get("a")).state == "running"
    place.clock.forward(2)
    await until(gone(place, made.id))
    assert await reason_of_removal(place, made.id) == "idle"


async def test_a_stream_or_a_running_process_is_not_idle(place):
    made = await place.create("a", idle_timeout_seconds=10)
    spec = ProcessSpec(argv=["sleep", "100000"])
    async with place.services.processes.follow("a", spec):
        for _ in range(5):
            place.clock.forward(11)
            asked = len(place.clock.asked)
            await until(lambda asked=asked: len(place.clock.asked) > asked)
    place.clock.forward(11)
    asked = len(place.clock.asked)
    await until(lambda: len(place.clock.asked) > asked)
    (process,) = await place.services.processes.list_for("a")
    async with place.services.processes.forward("a", "DELETE", process.id) as reply:
        assert reply.status == 204
    place.clock.forward(50)
    await until(gone(place, made.id))


async def test_a_paused_sandbox_is_not_idle_but_expires(place):
    made = await place.create("a", idle_timeout_seconds=10, ttl_seconds=100)
    await place.services.sandboxes.pause("a")
    place.clock.forward(50)
    assert (await place.services.sandboxes.get("a")).state == "paused"
    place.clock.forward(51)
    await until(gone(place, made.id))
    assert await reason_of_removal(place, made.id) == "expired"


async def test_a_removal_that_fails_is_tried_again(place):
    made = await place.create("a", ttl_seconds=30)
    place.engine.fail_next("remove", EngineError("no", stage="remove"))
    place.clock.forward(31)
    await until(lambda: not place.engine._faults)
    place.clock.forward(31)
    await until(gone(place, made.id))


@pytest.mark.parametrize("reason", ["guest_died", "out_of_memory"])
async def test_a_guest_that_dies_is_noticed(place, reason):
    made = await place.create("a")
    place.engine.kill_guest(made.id, reason, 137)

    async def noticed():
        return (await place.services.sandboxes.get("a")).state != "running"

    await until(noticed)
    found = await place.services.sandboxes.get("a")
    assert (found.state, found.reason, found.exit_code) == ("failed", reason, 137)
    assert (await place.services.sandboxes.events("a"))[-1].kind == "sandbox.failed"
    await place.services.sandboxes.remove("a")


async def test_a_guest_that_the_engine_expired_is_removed(place):
    made = await place.create("a")
    place.engine.kill_guest(made.id, "expired")
    await until(gone(place, made.id))
    assert await reason_of_removal(place, made.id) == "expired"


async def test_nothing_is_polled(place):
    await place.create("a")
    await place.create("b", ttl_seconds=1000)
    await until(lambda: place.clock.asked[-1:] == [60.0])
    asked = len(place.clock.asked)
    for _ in range(100):
        await place.services.sandboxes.get("a")
    assert len(place.clock.asked) == asked
