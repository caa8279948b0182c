"""Traffic, published ports and a spec that changes: one suite for both stores."""

import sqlite3

import msgspec
import pytest

from cloche.model.egress import EgressPolicy, EgressRule, Secret
from cloche.model.errors import NotFoundError, WrongStateError
from cloche.store.base import PublishedPort, Traffic
from cloche.store.migrate import migrate, migrations
from cloche.store.sqlite import SqliteStore
from tests.unit.store.test_store import event_for, put, record, store

__all__ = ["store"]
pytestmark = pytest.mark.anyio
RUNNING = frozenset({"running"})


def port_of(row, port=8000, address_port=40000):
    return PublishedPort(sandbox_id=row.sandbox.id, port=port, slug=f"{port}-{row.sandbox.id}",
                         address_port=address_port)  # fmt: skip


async def test_a_spec_changes_with_its_event(store):
    row = await put(store, record(state="running"))
    policy = EgressPolicy(rules=[EgressRule(hosts=["a.example"])])
    spec = msgspec.structs.replace(row.sandbox.spec, egress=policy,
                                   secrets=[Secret(name="T", hosts=["a.example"], placeholder="p")])  # fmt: skip
    event = event_for(row, "sandbox.egress_changed")
    changed = await store.transition(row.sandbox.id, RUNNING, "running", event=event, spec=spec)
    assert changed.sandbox.spec == spec
    assert (await store.get(row.sandbox.id)).sandbox.spec == spec
    assert [each.kind for each in await store.events(row.sandbox.id)] == ["sandbox.egress_changed"]


async def test_a_spec_does_not_change_in_another_state(store):
    row = await put(store, record(state="stopped"))
    spec = msgspec.structs.replace(row.sandbox.spec, egress=EgressPolicy())
    with pytest.raises(WrongStateError):
        await store.transition(row.sandbox.id, RUNNING, "running", event=event_for(row), spec=spec)
    with pytest.raises(NotFoundError):
        await store.transition("sb_none", RUNNING, "running", spec=spec)
    assert (await store.get(row.sandbox.id)).sandbox.spec.egress is None
    assert await store.events(row.sandbox.id) == []


async def test_traffic_is_written_and_replaced(store):
    row, other = await put(store, record()), await put(store, record())
    assert await store.traffic(row.sandbox.id) == Traffic()
    await store.put_traffic({row.sandbox.id: Traffic(sent_bytes=1, received_bytes=2), other.sandbox.id: Traffic()})
    await store.put_traffic({row.sandbox.id: Traffic(sent_bytes=1 << 60, received_bytes=3)})
    assert await store.traffic(row.sandbox.id) == Traffic(sent_bytes=1 << 60, received_bytes=3)


async def test_a_port_of_the_version_before_answers_for_its_own_hosts(tmp_path):
    old = sqlite3.connect(tmp_path / "db", isolation_level=None)
    migrate(old, migrations()[:4])
    old.execute("INSERT INTO publications (sandbox_id, port, slug, address_port) VALUES ('sb_a', 1, '1-a', 2)")
    old.close()
    opened = await SqliteStore.open(tmp_path / "db")
    assert await opened.ports(None) == [PublishedPort(sandbox_id="sb_a", port=1, slug="1-a", address_port=2)]
    await opened.close()


async def test_any_host_is_kept(store):
    row = await put(store, record())
    for any_host in (True, False, True):
        port = msgspec.structs.replace(port_of(row), any_host=any_host)
        await store.put_port(port)
        (kept,) = await store.ports(row.sandbox.id)
        assert kept == port and kept.any_host is any_host


async def test_of_a_sandbox_that_is_gone_nothing_is_kept(store):
    row = await put(store, record())
    await store.put_traffic({row.sandbox.id: Traffic(sent_bytes=1)})
    await store.put_port(port_of(row))
    await store.delete(row.sandbox.id)
    await store.put_traffic({row.sandbox.id: Traffic(sent_bytes=2)})
    assert not await store.put_port(port_of(row), event_for(row))
    assert (await store.traffic(row.sandbox.id), await store.ports(None)) == (Traffic(), [])
    assert await store.events(row.sandbox.id) == []


async def test_ports_are_written_replaced_and_removed(store):
    row, other = await put(store, record()), await put(store, record())
    assert await store.put_port(port_of(row), event_for(row, "sandbox.published"))
    await store.put_port(port_of(row, 9000))
    await store.put_port(port_of(other))
    await store.put_port(port_of(row, address_port=41000))
    assert await store.ports(row.sandbox.id) == [port_of(row, address_port=41000), port_of(row, 9000)]
    assert len(await store.ports(None)) == 3
    assert await store.delete_port(row.sandbox.id, 8000, event_for(row, "sandbox.unpublished"))
    assert not await store.delete_port(row.sandbox.id, 8000, event_for(row, "sandbox.unpublished"))
    assert await store.ports(row.sandbox.id) == [port_of(row, 9000)]
    kinds = [event.kind for event in await store.events(row.sandbox.id)]
    assert kinds == ["sandbox.published", "sandbox.unpublished"]
