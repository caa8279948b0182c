"""One suite for both stores: what holds for one must hold for the other."""

import asyncio

import msgspec
import pytest

from cloche.model.errors import AlreadyExistsError, NotFoundError, WrongStateError
from cloche.model.events import Event, SandboxQuery
from cloche.model.ids import new_event_id, new_intent_id, new_sandbox_id
from cloche.model.sandbox import Sandbox, SandboxRecord, SandboxSpec
from cloche.store.base import AuditLine, Intent, Store
from cloche.store.memory import MemoryStore
from cloche.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    bounds = {"events_per_sandbox": 5, "events_total": 12}
    if request.param == "memory":
        made: Store = MemoryStore(**bounds)
    else:
        made = await SqliteStore.open(tmp_path / "cloche.db", **bounds)
    yield made
    await made.close()


def record(name=None, *, sandbox_id=None, state="creating", project_id="default", **spec):
    asked = SandboxSpec(name=name, **spec)
    sandbox = Sandbox(
        id=sandbox_id or new_sandbox_id(), project_id=project_id, name=name, state=state, reason=None, engine="fake",
        isolation="none", spec=asked, limits=asked.limits.resolved(), limits_unenforced=["memory"],
        labels=asked.labels, created_at=1.5, started_at=None, expires_at=2.5, stopped_at=None,
    )  # fmt: skip
    return SandboxRecord(sandbox=sandbox, engine_state={"box": ["x", 1, {"y": None}]})


def intent_for(row, operation="create"):
    sandbox_id = row.sandbox.id
    return Intent(id=new_intent_id(), sandbox_id=sandbox_id, operation=operation, step="row_written", created_at=1.0)


def event_for(row, kind="sandbox.created", **data):
    return Event(id=new_event_id(), project_id=row.sandbox.project_id, sandbox_id=row.sandbox.id, at=1.0, kind=kind,
                 data=data)  # fmt: skip


async def put(store, row):
    await store.insert(row, intent_for(row))
    return row


async def test_a_row_comes_back_as_it_was_written(store):
    row = await put(store, record("a", labels={"k": "v"}, env={"A": "ü"}, idle_timeout_seconds=7))
    assert await store.get(row.sandbox.id) == row
    assert await store.get(new_sandbox_id()) is None


async def test_bytes_that_are_not_text_survive(store):
    row = await put(store, record("a", host_paths=["/x/\udcff"]))
    assert (await store.get(row.sandbox.id)).sandbox.spec.host_paths == ["/x/\udcff"]


async def test_a_name_is_taken_once_and_the_loser_leaves_nothing(store):
    first, second = record("same"), record("same")
    outcomes = await asyncio.gather(put(store, first), put(store, second), return_exceptions=True)
    assert sum(isinstance(outcome, AlreadyExistsError) for outcome in outcomes) == 1
    kept = await store.select(None, SandboxQuery())
    assert len(kept) == 1
    assert [intent.sandbox_id for intent in await store.intents()] == [kept[0].sandbox.id]


async def test_a_name_is_free_again_after_its_row_is_gone_and_in_other_projects(store):
    row = await put(store, record("same"))
    await put(store, record("same", project_id="other"))
    assert await store.delete(row.sandbox.id)
    await put(store, record("same"))


async def test_many_sandboxes_have_no_name(store):
    await put(store, record())
    await put(store, record())
    assert len(await store.select("default", SandboxQuery())) == 2


async def test_transition_compares_and_sets(store):
    row = await put(store, record("a"))
    sandbox_id = row.sandbox.id
    moved = await store.transition(sandbox_id, frozenset({"creating"}), "running", started_at=3.0, reason="r")
    assert (moved.sandbox.state, moved.sandbox.started_at, moved.sandbox.reason) == ("running", 3.0, "r")
    assert moved.sandbox.expires_at == 2.5
    assert moved == await store.get(sandbox_id)
    with pytest.raises(WrongStateError) as refused:
        await store.transition(sandbox_id, frozenset({"creating"}), "failed", event=event_for(row))
    assert refused.value.details["state"] == "running"
    assert await store.events(sandbox_id) == []
    with pytest.raises(NotFoundError):
        await store.transition(new_sandbox_id(), frozenset({"creating"}), "failed")


async def test_only_one_of_many_transitions_wins(store):
    row = await put(store, record(state="running"))
    moves = [
        store.transition(row.sandbox.id, frozenset({"running"}), "stopping", intent=intent_for(row, "stop"))
        for _ in range(8)
    ]
    outcomes = await asyncio.gather(*moves, return_exceptions=True)
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert [intent.operation for intent in await store.intents()] == ["create", "stop"]


async def test_intents_go_when_the_sandbox_rests_or_is_gone(store):
    row = await put(store, record())
    sandbox_id = row.sandbox.id
    await store.transition(sandbox_id, frozenset({"creating"}), "failed")
    assert len(await store.intents()) == 1, "a failed operation may have to be finished"
    await store.transition(sandbox_id, frozenset({"failed"}), "stopped")
    assert await store.intents() == []
    await store.transition(sandbox_id, frozenset({"stopped"}), "stopping", intent=intent_for(row, "remove"))
    await store.delete(sandbox_id, event_for(row, "sandbox.removed"))
    assert await store.intents() == []
    assert not await store.delete(sandbox_id, event_for(row, "sandbox.removed"))
    assert [event.kind for event in await store.events(sandbox_id)] == ["sandbox.removed"]


async def test_find_by_id_name_and_prefix(store):
    one = await put(store, record("web", sandbox_id="sb_01aaaa" + "0" * 20))
    two = await put(store, record("sbx", sandbox_id="sb_01aaab" + "0" * 20))
    assert await store.find("default", one.sandbox.id) == [one]
    assert await store.find("default", "sbx") == [two]
    assert await store.find("default", "sb_01aaab") == [two]
    assert await store.find("default", "sb_01aaa") == [one, two]
    assert await store.find("default", "sb_01a") == [], "too short"
    assert await store.find("default", "we") == []
    assert await store.find("default", "sb_01aa%") == []
    assert await store.find("other", "web") == []


async def test_select_filters_and_pages_in_order(store):
    rows = [await put(store, record(labels={"n": str(number)}, state="running")) for number in range(5)]
    last = await put(store, record("named", labels={"n": "0", "also": ""}, state="stopped"))
    ids = [row.sandbox.id for row in [*rows, last]]
    select = lambda **query: store.select("default", SandboxQuery(**query))  # noqa: E731
    assert [row.sandbox.id for row in await select()] == ids == sorted(ids)
    assert [row.sandbox.id for row in await select(limit=2, cursor=ids[1])] == ids[2:4]
    assert await select(labels={"n": "0"}) == [rows[0], last]
    assert await select(labels={"also": None, "n": "0"}) == [last]
    assert await select(labels={"also": "x"}) == []
    assert await select(states=frozenset({"stopped", "failed"})) == [last]
    assert await select(name="named") == [last]
    assert await store.select("other", SandboxQuery()) == []


async def test_events_are_bounded(store):
    rows = [await put(store, record()) for _ in range(4)]
    for number in range(8):
        for row in rows:
            await store.add_event(event_for(row, number=number))
    kept = [[event.data["number"] for event in await store.events(row.sandbox.id)] for row in rows]
    assert kept == [[5, 6, 7]] * 4
    for number in range(8, 16):
        await store.add_event(event_for(rows[0], number=number))
    assert [event.data["number"] for event in await store.events(rows[0].sandbox.id)] == [11, 12, 13, 14, 15]
    assert [event.data["number"] for event in await store.events(rows[0].sandbox.id, 2)] == [14, 15]


async def test_audit_lines_are_kept_in_order(store):
    lines = [
        AuditLine(id=new_event_id(), project_id="default", sandbox_id=None, at=1.0, actor="me", action=str(number))
        for number in range(3)
    ]
    for line in lines:
        await store.add_audit(line)
    assert await store.audit() == lines
    assert await store.audit(1) == lines[-1:]


async def test_a_session_environment_has_no_place_in_a_row(store):
    sandbox = record().sandbox
    assert "session_env" not in {*msgspec.structs.asdict(sandbox), *msgspec.structs.asdict(sandbox.spec)}
