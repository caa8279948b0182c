"""Templates: what a create means that names one, and what waits of it."""

import pytest

from cloche.model.errors import (
    InvalidError,
    LimitHitError,
    LimitUnenforceableError,
    NotFoundError,
    UnavailableError,
)
from cloche.model.limits import Limits
from cloche.model.sandbox import SandboxSpec
from cloche.model.template import TemplateSpec, Warm, WarmContext
from cloche.service.pool import PoolSettings
from tests.unit.service.place import Place
from tests.unit.service.test_pool import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(tmp_path):
    async with Place(tmp_path, pool=PoolSettings(memory_mib=1 << 20, quiet_seconds=0)) as made:
        await made.services.pool.start()
        yield made
    assert made.left() == []


async def put(place, template="t", /, size=0, contexts=(), **spec):
    warm = Warm(size=size, contexts=list(contexts))
    return await place.services.templates.put(template, TemplateSpec(spec=SandboxSpec(**spec), warm=warm))


def shelves(place):
    return {",".join(shelf.plan.templates): shelf for shelf in place.services.pool._shelves}


async def create(place, said=None, **spec):
    return await place.services.sandboxes.create(SandboxSpec(template="t", **spec), said=said)


async def test_a_create_begins_from_its_template(place):
    await put(place, env={"A": "t", "B": "t"}, labels={"l": "t"}, limits=Limits(pids=9, disk_mib=5), ttl_seconds=60)
    made = await create(place, env={"A": "c"}, labels={"m": "c"}, limits=Limits(pids=7))
    assert made.spec.env == {"A": "c", "B": "t"}
    assert made.labels == {"l": "t", "m": "c"}
    assert (made.limits.pids, made.limits.disk_mib) == (7, 5)
    assert (made.spec.ttl_seconds, made.spec.template) == (60, "t")
    assert (await create(place, ttl_seconds=5)).spec.ttl_seconds == 5
    for sandbox in (await place.services.sandboxes.find()).sandboxes:
        await place.services.sandboxes.remove(sandbox.id)


async def test_what_was_said_wins_also_when_it_is_as_by_default(place):
    await put(place, ttl_seconds=60, workdir="/tmp")
    made = await create(place, said=frozenset({"template", "ttl_seconds", "workdir"}))
    assert (made.spec.ttl_seconds, made.spec.workdir) == (None, None)
    await place.services.sandboxes.remove(made.id)


@pytest.mark.parametrize(
    ("error", "spec"),
    [
        (InvalidError, {"name": "a"}), (InvalidError, {"template": "other"}), (InvalidError, {"env": {"": "x"}}),
        (UnavailableError, {"image": "x"}), (LimitUnenforceableError, {"limits": Limits(memory_mib=64)}),
        (InvalidError, {"limits": Limits(pids=0)}),
    ],
)  # fmt: skip
async def test_a_template_that_no_create_could_use_is_refused(place, error, spec):
    with pytest.raises(error):
        await put(place, **spec)
    assert (await place.services.templates.all()).templates == []


@pytest.mark.parametrize("warm", [Warm(size=-1), Warm(size=1001), Warm(contexts=[WarmContext(), WarmContext()]),
                                  Warm(contexts=[WarmContext(code="x" * (1 << 20))])])  # fmt: skip
async def test_what_cannot_be_warm_is_refused(place, warm):
    with pytest.raises(InvalidError):
        await place.services.templates.put("t", TemplateSpec(warm=warm))


@pytest.mark.parametrize("name", ["", "A", "a/b", "x" * 64, "a\n"])
async def test_a_name_must_be_a_name(place, name):
    with pytest.raises(InvalidError):
        await put(place, name)


async def test_an_unknown_template_is_not_found(place):
    for failing in (place.services.templates.get("t"), place.services.templates.remove("t"), create(place)):
        with pytest.raises(NotFoundError):
            await failing


async def test_there_is_an_end_to_templates(place, monkeypatch):
    monkeypatch.setattr("cloche.model.template.MAX_TEMPLATES", 1)
    await put(place)
    await put(place, hostname="x")
    with pytest.raises(LimitHitError):
        await put(place, "u")


async def test_sandboxes_of_a_template_wait(place):
    await put(place, size=2, hostname="h")
    await until(lambda: shelves(place)["t"].info().ready == 2)
    made = await create(place)
    assert made.spec.hostname == "h"
    await until(lambda: shelves(place)["t"].info().ready == 2)
    other = await create(place, hostname="other")
    assert (shelves(place)["t"].hits, dict(shelves(place)["t"].misses)) == (1, {"hostname": 1})
    for sandbox in (made, other):
        await place.services.sandboxes.remove(sandbox.id)


async def test_a_template_that_changes_refills_and_one_that_goes_drains(place):
    await put(place, size=2, hostname="h")
    await until(lambda: shelves(place)["t"].info().ready == 2)
    before = set(place.left())
    await put(place, size=1, hostname="other")
    await until(lambda: shelves(place)["t"].info().ready == 1 and len(place.left()) == 1)
    assert not before & set(place.left())
    await put(place, size=0, hostname="other")
    await until(lambda: place.left() == [])
    await put(place, size=1)
    await until(lambda: len(place.left()) == 1)
    await place.services.templates.remove("t")
    await until(lambda: place.left() == [])
    assert shelves(place) == {}


async def test_a_late_change_keeps_what_waits(place):
    await put(place, size=2)
    await until(lambda: shelves(place)["t"].info().ready == 2)
    before = set(place.left())
    await put(place, size=2, env={"A": "1"}, limits=Limits(pids=9))
    made = await create(place)
    assert made.id in before and made.limits.pids == 9
    await place.services.sandboxes.remove(made.id)
