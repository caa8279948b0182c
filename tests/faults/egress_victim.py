"""A node's services with a door, that kill themselves: `egress_victim.py HOME OPERATION POINT`. Run by
test_kill_egress.py; as victim.py, with policies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from cloche.egress.node_side import door_process
from cloche.egress.node_side.door_client import DoorClient
from cloche.egress.node_side.door_process import DoorSettings
from cloche.model.egress import EgressPolicy, EgressRule, Secret
from cloche.model.sandbox import SandboxSpec
from cloche.service.services import Services
from cloche.store.sqlite import SqliteStore
from tests.faults.victim import NAME, OneEngine
from tests.unit.egress.node_side import stub_door

OLD = EgressPolicy(rules=[EgressRule(hosts=["old.example"])])
NEW = EgressPolicy(rules=[EgressRule(hosts=["new.example"])])
TOKEN = Secret(name="TOKEN", hosts=["api.example.com"])
VALUE = "the-value-that-nobody-may-find"
BEFORE = {"create": [], "open": ["create_closed"], "change": ["create"], "close": ["create"], "publish": ["create"],
          "unpublish": ["create", "publish"], "remove": ["create", "publish"]}  # fmt: skip


def with_stub() -> None:
    """In the place of the door a process that writes down what it is told."""
    door_process.command = lambda fd: [sys.executable, stub_door.__file__, "--control-fd", str(fd)]
    parts = [str(Path(door_process.__file__).parents[3]), str(Path(stub_door.__file__).parents[4])]
    os.environ["PYTHONPATH"] = os.pathsep.join(parts)


async def open_services(home: Path, observer=None) -> tuple[Services, DoorClient]:
    with_stub()
    door = DoorClient(DoorSettings(home=str(home)))
    store = await SqliteStore.open(home / "cloche.db")
    return Services(home, store, OneEngine(home, "namespace"), observer=observer, door=door), door


async def act(services: Services, operation: str) -> None:
    match operation:
        case "create":
            spec = SandboxSpec(name=NAME, egress=OLD, secrets=[TOKEN])
            await services.sandboxes.create(spec, session_secrets={"TOKEN": VALUE})
        case "create_closed":
            await services.sandboxes.create(SandboxSpec(name=NAME))
        case "open" | "change":
            await services.egress.set_policy(NAME, NEW)
        case "close":
            await services.egress.set_policy(NAME, None)
        case "publish":
            await services.publishing.publish(NAME, 8000)
        case "unpublish":
            await services.publishing.unpublish(NAME, 8000)
        case "remove":
            await services.sandboxes.remove(NAME, force=True)


async def main(home: Path, operation: str, point: str) -> None:
    async def die(reached: str) -> None:
        if reached == armed and later:
            signal.setitimer(signal.ITIMER_REAL, float(later) / 1000)
        elif reached == armed:
            os.kill(os.getpid(), signal.SIGKILL)

    armed, (point, _, later) = "", point.partition("+")
    services, door = await open_services(home, die)
    for earlier in BEFORE[operation]:
        await act(services, earlier)
    await asyncio.to_thread((home / "door.pid").write_text, str(door.pid or 0))
    armed = point
    await act(services, operation)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:4]))
