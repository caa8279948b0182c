"""A door that is killed while it is told something: whenever that is, the next one knows what holds, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloche.egress.node_side.door_client import DoorClient
from cloche.model.egress import EgressPolicy
from cloche.model.errors import UnavailableError
from tests.unit.egress.node_side.stub_door import told
from tests.unit.egress.node_side.test_door_client import ID, attach, door

__all__ = ["door"]
pytestmark = pytest.mark.anyio

OPEN = msgspec.structs.replace(attach(), policy=EgressPolicy(default="allow"))
NARROW = EgressPolicy(default="deny")
#: what is done, and the defaults of the policies that the next door is told of
ACTS: dict[str, tuple[Callable[[DoorClient], Awaitable[Any]], list[str]]] = {
    "attach": (lambda door: door.attach(OPEN), ["allow"]),
    "set_policy": (lambda door: door.set_policy(ID, NARROW, []), ["deny"]),
    "detach": (lambda door: door.detach(ID), []),
}


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("act", ACTS)
async def test_the_next_one_knows_what_holds(door: DoorClient, tmp_path: Path, act: str, turns: int) -> None:
    do, expected = ACTS[act]
    await (door.ready() if act == "attach" else door.attach(OPEN))
    line, pid = door._life.line, door.pid
    assert line is not None and pid is not None
    doing = asyncio.ensure_future(do(door))
    for _ in range(turns):
        await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    await line.lost.wait()
    with contextlib.suppress(UnavailableError):
        await doing
    # it answers in order, so it has taken everything before
    await door.answer("ask", "deny")
    assert door.pid != pid
    assert defaults_of_the_last(tmp_path) == expected


def defaults_of_the_last(home: Path) -> list[str]:
    """Of what it has been told since it began."""
    said: list[Any] = told(home)
    began = max(number for number, each in enumerate(said) if each["op"] == "setup")
    # a field that has its default is not written
    return [each["policy"].get("default", "deny") for each in said[began + 1 :] if each["op"] != "answer"]
