"""A door that lives and says nothing is replaced: who waits is told soon, and what was changed meanwhile holds."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from cloche.egress.node_side import door_line, door_process
from cloche.egress.node_side.door_client import DoorClient
from cloche.model.egress import EgressPolicy
from cloche.model.errors import LimitHitError, TimedOutError, UnavailableError
from tests.unit.egress.node_side.stub_door import told
from tests.unit.egress.node_side.test_door_client import ID, attach, door

__all__ = ["door"]
pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_line, "REPLY_SECONDS", 0.2)
    monkeypatch.setattr(door_process, "END_SECONDS", 0.1)


async def silenced(door: DoorClient) -> int:
    await door.attach(attach())
    pid = door.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    return pid


async def test_another_one_is_told_what_the_silent_one_was_not(door: DoorClient, tmp_path: Path) -> None:
    silent, policy = await silenced(door), EgressPolicy(default="allow")
    with pytest.raises(TimedOutError):
        await door.set_policy(ID, policy, [])
    await door.set_policy(ID, policy, [])
    assert door.pid != silent
    setups = [number for number, said in enumerate(told(tmp_path)) if said["op"] == "setup"]
    again = told(tmp_path)[setups[-1] + 1]
    assert (again["op"], again["policy"]["default"]) == ("attach", "allow")  # type: ignore[index]


async def test_what_is_detached_from_a_silent_one_is_not_attached_again(door: DoorClient, tmp_path: Path) -> None:
    silent = await silenced(door)
    assert await door.detach(ID) is not None
    await door.ready()
    assert door.pid != silent
    assert [said["op"] for said in told(tmp_path)] == ["setup", "attach", "setup"]


async def test_those_that_wait_beside_wait_no_longer(door: DoorClient) -> None:
    await silenced(door)
    asked = [door.set_policy(ID, None, []), door.publish(ID, 80, "80-one", 0), door.unpublish(ID, 81)]
    failures = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(failure, (TimedOutError, UnavailableError)) for failure in failures[:2]), failures


async def test_a_policy_that_cannot_be_told_is_told_to_another_one(
    door: DoorClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await door.attach(attach())
    deaf = door.pid
    with monkeypatch.context() as crowd:
        crowd.setattr(door_line, "MAX_ASKED", 0)
        with pytest.raises(LimitHitError):
            await door.set_policy(ID, None, [])
    await door.ready()
    assert door.pid != deaf
    assert "policy" not in told(tmp_path)[-1] or told(tmp_path)[-1]["policy"] is None


async def test_what_cannot_be_detached_is_unknown_to_another_one(
    door: DoorClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await door.attach(attach())
    deaf = door.pid
    with monkeypatch.context() as crowd:
        crowd.setattr(door_line, "MAX_ASKED", 0)
        assert await door.detach(ID) is not None
    await door.ready()
    assert door.pid != deaf
    assert [said["op"] for said in told(tmp_path)] == ["setup", "attach", "setup"]
