"""What boxes use: many in one look, of which none that hangs or is gone holds up the others."""

import contextlib
import socket
import threading

import pytest

from cloche.engines.base import Box, BoxUsage
from cloche.engines.launched import usage
from cloche.model.sandbox import SandboxSpec

pytestmark = pytest.mark.anyio


def box(directory, groups=None):
    directory.mkdir(parents=True, exist_ok=True)
    state = {"usage": groups} if groups else {}
    return Box(sandbox_id="sb_1", spec=SandboxSpec(), run_dir=str(directory), state_dir="", engine_state=state)


@contextlib.contextmanager
def supervisor(directory, reply):
    """Listens; answers one question with `reply`, or never when it is None."""
    directory.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening, contextlib.ExitStack() as stack:
        listening.bind(str(directory / "control.sock"))
        listening.listen()

        def answer():
            with listening.accept()[0] as connected:
                assert connected.recv(100) == usage.QUESTION
                connected.sendall(reply)

        if reply is not None:
            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            stack.callback(thread.join, 30)
        yield


async def test_one_that_hangs_holds_up_nobody(tmp_path):
    good = b'{"ok":true,"disk_bytes":5,"disk_limit_bytes":9,"oom_kills":1}\n'
    with supervisor(tmp_path / "a", good), supervisor(tmp_path / "b", None), supervisor(tmp_path / "c", b"nonsense\n"):
        found = usage.usages_of([box(tmp_path / name) for name in ("a", "b", "c", "gone")])
    assert found[0] == BoxUsage(disk_bytes=5, disk_limit_bytes=9, out_of_memory_kills=1)
    assert found[1:] == [BoxUsage()] * 3


async def test_numbers_of_a_version_2_group(tmp_path):
    group = tmp_path / "group"
    group.mkdir()
    files = {"memory.current": "1024\n", "memory.peak": "2048\n", "pids.current": "7\n", "cgroup.procs": "1\n2\n3\n",
             "cpu.stat": "usage_usec 2500000\nuser_usec 1\n"}  # fmt: skip
    for name, text in files.items():
        (group / name).write_text(text)
    (found,) = usage.usages_of([box(tmp_path / "run", {"version": 2, "group": str(group)})])
    assert found == BoxUsage(memory_bytes=1024, memory_peak_bytes=2048, memory_limit_bytes=512 << 20, pids=7,
                             processes=2, cpu_seconds=2.5)  # fmt: skip


async def test_those_who_ask_at_once_share_a_look(tmp_path, monkeypatch):
    import asyncio

    looks = []

    def look(boxes):
        looks.append(len(boxes))
        return [BoxUsage(pids=len(boxes))] * len(boxes)

    monkeypatch.setattr(usage, "usages_of", look)
    shared = usage.Looks()
    found = await asyncio.gather(*(shared.at(box(tmp_path)) for _ in range(20)))
    assert looks == [20]
    assert {each.pids for each in found} == {20}
    assert (await shared.at(box(tmp_path))).pids == 1


async def test_a_look_that_fails_leaves_nobody_waiting(tmp_path, monkeypatch, caplog):
    def fail(boxes):
        raise RuntimeError

    monkeypatch.setattr(usage, "usages_of", fail)
    assert await usage.Looks().at(box(tmp_path)) == BoxUsage()
