"""What is too large to be told costs the one sandbox that it is of."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cloche.egress.messages import Attach, GivenSecret
from cloche.egress.node_side.door_client import DoorClient
from cloche.model.egress import EgressPolicy
from tests.unit.egress.node_side.stub_door import told
from tests.unit.egress.node_side.test_door_client import ID, SECRET, attach, door, killed

__all__ = ["door"]
pytestmark = pytest.mark.anyio
LARGE = GivenSecret(secret=SECRET, placeholder="p", value="x" * 200_000)


async def test_a_door_that_begins_anew_begins_for_the_others(door: DoorClient, tmp_path: Path) -> None:
    await door.attach(attach())
    await door.attach(Attach(id=0, sandbox_id="sb_two", name=None, policy=EgressPolicy()))
    door._attached[ID] = msgspec.structs.replace(door._attached[ID], secrets=[LARGE])
    await killed(door)
    await door.set_policy("sb_two", EgressPolicy(default="allow"), [])
    setups = [number for number, said in enumerate(told(tmp_path)) if said["op"] == "setup"]
    assert [said["sandbox_id"] for said in told(tmp_path)[setups[-1] + 1 :]] == ["sb_two", "sb_two"]
