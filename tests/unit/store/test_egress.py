"""Traffic, published ports and a spec that changes: one suite for both stores."""

import msgspec
import pytest

from cloche.model.egress import EgressPolicy, EgressRule, Secret
from cloche.model.errors import NotFoundError, WrongStateError
from cloche.store.base import PublishedPort, Traffic
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
