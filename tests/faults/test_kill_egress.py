"""kill -9 of a node in the middle of a change of what a sandbox may reach: the next node finds the old or the new
policy, and guest, door and row agree about it. The door never outlives its node."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cloche.engines import registry
from cloche.model.egress import EgressPolicy
from cloche.model.events import SandboxQuery
from cloche.model.process import ProcessSpec
from tests.faults import egress_victim
from tests.faults.egress_victim import NEW, OLD, VALUE
from tests.faults.test_kill import directories, leftovers
from tests.unit.egress.node_side.stub_door import told

#: operation → points, and the policies that the next node may find at each (None: closed; "gone": no sandbox)
POINTS = {
    ("create", "create.row_written"): ["gone"],
    ("create", "create.engine_created"): ["gone"],
    ("create", "create.guest_answered"): ["gone"],
    ("create", "open.guest_told"): ["gone"],
    ("create", "open.attached"): ["gone"],
    ("create", "create.guest_configured"): ["gone"],
    ("create", "create.committed"): [OLD],
    ("open", "policy.row_written"): [NEW],
    ("open", "open.guest_told"): [NEW],
    ("open", "open.attached"): [NEW],
    ("open", "policy.committed"): [NEW],
    ("change", "policy.row_written"): [NEW],
    ("change", "open.guest_told"): [NEW],
    ("change", "policy.committed"): [NEW],
    ("close", "policy.row_written"): [None],
    ("close", "open.guest_told"): [None],
    ("close", "policy.committed"): [None],
    ("remove", "remove.marked"): ["gone"],
    ("remove", "remove.engine_removed"): ["gone"],
}
WITHIN = [("create", "create.guest_answered", ["gone", OLD]), ("open", "policy.row_written", [NEW]),
          ("change", "policy.row_written", [NEW]), ("close", "policy.row_written", [None])]  # fmt: skip


@pytest.fixture(autouse=True)
def namespace(tmp_path):
    made = registry.build("namespace", tmp_path)
    missing = [check for check in asyncio.run(made.check()) if check.required and check.status == "missing"]
    if missing:
        pytest.skip(f"engine namespace cannot run here: {missing[0].summary}")
    yield
    asyncio.run(made.sweep(frozenset()))


@pytest.mark.parametrize(("operation", "point", "found"), [(*key, value) for key, value in POINTS.items()],
                         ids=[f"{operation}-{point}" for operation, point in POINTS])  # fmt: skip
def test_row_guest_and_door_agree_after_a_kill(tmp_path, operation, point, found):
    kill_at(tmp_path, operation, point)
    asyncio.run(recover_and_look(tmp_path, found))
    assert leftovers(tmp_path) == []
    assert holding(tmp_path, VALUE) == []


@pytest.mark.parametrize("milliseconds", [1, 2, 4, 8])
@pytest.mark.parametrize(("operation", "point", "found"), WITHIN, ids=[each[0] for each in WITHIN])
def test_they_agree_after_a_kill_within_a_step(tmp_path, operation, point, found, milliseconds):
    kill_at(tmp_path, operation, f"{point}+{milliseconds}")
    asyncio.run(recover_and_look(tmp_path, found))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(("operation", "point", "ports"), [("publish", "publish.door_told", []),
                                                           ("unpublish", "unpublish.row_removed", [])])  # fmt: skip
def test_row_and_door_agree_about_ports(tmp_path, operation, point, ports):
    kill_at(tmp_path, operation, point)

    async def look() -> None:
        services, _ = await egress_victim.open_services(tmp_path)
        await services.recover()
        before = len(told(tmp_path))
        (row,) = await services.store.select(None, SandboxQuery())
        assert await services.store.ports(row.sandbox.id) == ports
        assert [each["op"] for each in told(tmp_path)[before - 2 :]] == ["setup", "attach"]
        await services.sandboxes.remove(row.sandbox.id, force=True)
        await services.close()

    asyncio.run(look())
    assert leftovers(tmp_path) == []


def command(home: Path, operation: str, point: str) -> list[str]:
    return [sys.executable, egress_victim.__file__, str(home), operation, point]


def source() -> str:
    return os.pathsep.join([str(Path(registry.__file__).parents[2]), str(Path(__file__).parents[2])])


def kill_at(home: Path, operation: str, point: str) -> None:
    environ = {**os.environ, "PYTHONPATH": source()}
    ended = subprocess.run(command(home, operation, point), env=environ, capture_output=True, timeout=60)
    killed = {-signal.SIGALRM, 0} if "+" in point else {-signal.SIGKILL}
    assert ended.returncode in killed, ended.stderr.decode()
    assert gone(int((home / "door.pid").read_text()))


def gone(pid: int) -> bool:
    """Wait for the end of a process that may have ended already."""
    if pid == 0:
        return True
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 20)[0])
    finally:
        os.close(descriptor)


async def recover_and_look(home: Path, allowed: list[object]) -> None:
    services, door = await egress_victim.open_services(home)
    try:
        await services.recover()
        found = await look(services, door)
        assert found in allowed
        assert await services.store.intents() == []
        for row in await services.store.select(None, SandboxQuery()):
            await services.sandboxes.remove(row.sandbox.id, force=True)
        assert directories(home) == []
    finally:
        await services.close()


async def look(services, door) -> EgressPolicy | str | None:
    """What row, guest and door agree on."""
    rows = await services.store.select(None, SandboxQuery())
    if not rows:
        assert door.state == "off"
        return "gone"
    (row,) = rows
    assert row.sandbox.state == "running"
    policy = row.sandbox.spec.egress
    assert await guest_is_open(services, row) == (policy is not None)
    assert told_policy(services.home, door) == policy
    return policy


async def guest_is_open(services, row) -> bool:
    guest = await services.guests.get(row)
    process = await guest.start_process(ProcessSpec(argv=["sh", "-c", 'test -n "$HTTPS_PROXY"']))
    return (await guest.wait_process(process.id, timeout_seconds=20)).exit_code == 0


def told_policy(home: Path, door) -> EgressPolicy | None:
    """That of the one sandbox, in the door of this node."""
    if door.state == "off":
        return None
    said = told(home)
    begun = max(number for number, message in enumerate(said) if message["op"] == "setup")
    policies = [message["policy"] for message in said[begun:] if message["op"] in ("attach", "setpolicy")]
    return None if policies[-1] is None else msgspec.convert(policies[-1], EgressPolicy)


def holding(home: Path, text: str) -> list[str]:
    """Files with this in them, but for what the stub itself has written."""
    files = [path for path in home.rglob("*") if path.is_file() and not path.is_symlink() and path.name != "told.jsonl"]
    return [str(path) for path in files if text.encode() in path.read_bytes()]
