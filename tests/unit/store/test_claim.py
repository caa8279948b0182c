"""What waits in a pool becomes somebody's in one write; templates are kept."""

import asyncio

import msgspec
import pytest

from cloche.model.errors import AlreadyExistsError, NotFoundError, WrongStateError
from cloche.model.events import SandboxQuery
from cloche.model.ids import new_sandbox_id
from cloche.model.limits import Limits
from cloche.model.pool import POOL_PROJECT
from cloche.model.sandbox import SandboxSpec
from cloche.model.template import Template, Warm, WarmContext
from tests.unit.store.test_store import event_for, put, record, store

pytestmark = pytest.mark.anyio
__all__ = ["store"]


async def waiting(store, state="running"):
    row = msgspec.structs.replace(record(state=state, project_id=POOL_PROJECT), pool_key="k")
    return await put(store, row)


def asked_for(row, name="a", **spec):
    wanted = record(name, sandbox_id=row.sandbox.id, state="running", labels={"l": "v"}, ttl_seconds=9, **spec)
    return msgspec.structs.replace(wanted, engine_state={"new": True})


async def claim(store, row, wanted, key="k"):
    return await store.claim(key, wanted, event_for(wanted, pool=True))


async def test_who_waits_is_in_no_project(store):
    row = await waiting(store)
    assert await store.get(row.sandbox.id) == row
    assert await store.find("default", row.sandbox.id) == []
    assert await store.select("default", SandboxQuery()) == []
    assert await store.select(None, SandboxQuery()) == [row]


async def test_a_claim_changes_everything_at_once(store):
    row = await waiting(store)
    wanted = asked_for(row, limits=Limits(memory_mib=64), idle_timeout_seconds=5)
    assert await claim(store, row, wanted) == wanted
    assert await store.get(row.sandbox.id) == wanted
    assert await store.find("default", "a") == [wanted]
    assert [event.data for event in await store.events(row.sandbox.id)] == [{"pool": True}]


async def test_a_claim_that_cannot_be_changes_nothing(store):
    row, wanted = await waiting(store), None
    wanted = asked_for(row)
    with pytest.raises(WrongStateError):
        await claim(store, row, wanted, "other")
    await put(store, record("a"))
    with pytest.raises(AlreadyExistsError):
        await claim(store, row, wanted)
    with pytest.raises(NotFoundError):
        await claim(store, row, record(sandbox_id=new_sandbox_id()))
    half_made = await waiting(store, "creating")
    with pytest.raises(WrongStateError):
        await claim(store, half_made, asked_for(half_made, "b"))
    assert await store.get(row.sandbox.id) == row
    assert await store.events(row.sandbox.id) == []


async def test_only_one_of_many_claims_wins(store):
    row = await waiting(store)
    claims = [claim(store, row, asked_for(row, f"n{number}")) for number in range(8)]
    outcomes = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert len(await store.events(row.sandbox.id)) == 1


def template(name="t", project_id="default", at=1.0, **spec):
    warm = Warm(size=2, contexts=[WarmContext(code="x = '\udcff'")])
    return Template(name=name, project_id=project_id, spec=SandboxSpec(**spec), warm=warm, created_at=at, updated_at=at)


async def test_templates_are_kept_replaced_and_forgotten(store):
    assert await store.put_template(template(host_paths=["/x\udcff"]))
    assert await store.template("default", "t") == template(host_paths=["/x\udcff"])
    assert not await store.put_template(template(at=5.0, hostname="h"))
    replaced = await store.template("default", "t")
    assert (replaced.created_at, replaced.updated_at, replaced.spec.hostname) == (1.0, 5.0, "h")
    assert await store.delete_template("default", "t")
    assert not await store.delete_template("default", "t")
    assert await store.template("default", "t") is None


async def test_templates_of_projects_do_not_mix(store):
    for each in (template("b"), template("a"), template("a", "other")):
        assert await store.put_template(each)
    assert [(found.project_id, found.name) for found in await store.templates(None)] == [
        ("default", "a"), ("default", "b"), ("other", "a"),
    ]  # fmt: skip
    assert [found.name for found in await store.templates("default")] == ["a", "b"]
    assert await store.template("other", "b") is None
