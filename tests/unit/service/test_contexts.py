"""Code contexts through the service: idleness, prefixes of ids, and no interpreter."""

import pytest

from cloche.guest_api import ContextListing
from cloche.model.code import CodeSpec, ContextInfo, ContextSpec
from cloche.model.errors import InterpreterMissingError, InvalidError, NotFoundError, WrongStateError
from tests.unit.service.place import until

pytestmark = pytest.mark.anyio


def context(number, state="idle"):
    return ContextInfo(id=f"c_{number:026d}", language="python", state=state, created_at=1.0)


async def guest_of(place, sandbox_id):
    return await place.services.guests.get(await place.store.get(sandbox_id))


def lists(*contexts):
    async def list_contexts():
        return ContextListing(contexts=list(contexts), languages=["python"])

    return list_contexts


async def test_code_that_runs_keeps_a_sandbox_from_being_idle(place):
    made = await place.create("a", idle_timeout_seconds=10)
    guest = await guest_of(place, made.id)
    guest.list_contexts = lists(context(1), context(2, "busy"))
    for _ in range(3):
        place.clock.forward(11)
        asked = len(place.clock.asked)
        await until(lambda asked=asked: len(place.clock.asked) > asked)
        assert (await place.services.sandboxes.get("a")).state == "running"
    guest.list_contexts = lists(context(1), context(2, "ended"))
    place.clock.forward(11)

    async def gone():
        return await place.store.get(made.id) is None

    await until(gone)


async def test_a_missing_interpreter_has_a_remedy(place):
    await place.create("a")
    with pytest.raises(InterpreterMissingError) as caught:
        await place.services.contexts.create("a", ContextSpec(language="bash"))
    assert "image" in caught.value.remedy
    with pytest.raises(InterpreterMissingError) as caught:
        async with place.services.contexts.execute("a", CodeSpec(code="1")):
            pass
    assert "image" in caught.value.remedy


async def test_prefixes_of_ids(place):
    made = await place.create("a")
    guest = await guest_of(place, made.id)
    guest.list_contexts = lists(context(11111 * 10**20), context(11112 * 10**20))

    async def known(context_id):
        return context(11111 * 10**20)

    guest.context = known
    assert (await place.services.contexts.get("a", "c_011111")).id == context(11111 * 10**20).id
    with pytest.raises(InvalidError):
        await place.services.contexts.get("a", "c_01111")
    for nobody in ("c_011", "c_9999"):
        with pytest.raises(NotFoundError) as caught:
            await place.services.contexts.get("a", nobody)
        assert "contexts.list()" in caught.value.remedy


async def test_only_in_a_sandbox_that_runs(place):
    await place.create("a")
    await place.services.sandboxes.pause("a")
    with pytest.raises(WrongStateError):
        await place.services.contexts.list_for("a")
    with pytest.raises(WrongStateError):
        async with place.services.contexts.execute("a", CodeSpec(code="1")):
            pass


async def test_what_is_not_there_has_a_remedy(place):
    await place.create("a")
    with pytest.raises(NotFoundError) as caught:
        async with place.services.contexts.events("a", "x_" + "0" * 26):
            pass
    assert "again" in caught.value.remedy
    with pytest.raises(NotFoundError) as caught:
        await place.services.processes.get("a", "p_" + "0" * 26)
    assert caught.value.remedy == "cloche logs --json a"
    with pytest.raises(NotFoundError) as caught:
        async with place.services.processes.forward("a", "GET", "p_" + "0" * 26, "/output"):
            pass
    assert caught.value.remedy == "cloche logs --json a"
