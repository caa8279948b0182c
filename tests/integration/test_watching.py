"""Events and use of real sandboxes, over the death of their node."""

from __future__ import annotations

import os
import select
import signal
import threading
from pathlib import Path

from cloche import Event, Node, Sandbox
from tests.integration.node_harness import DEADLINE_SECONDS


def kinds(events: list[Event]) -> list[str]:
    return [event.kind.removeprefix("sandbox.") for event in events]


def kill(pid: int) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([descriptor], [], [], DEADLINE_SECONDS)[0]
    finally:
        os.close(descriptor)


class Follower(threading.Thread):
    """Collects the events of a sandbox until it is removed."""

    def __init__(self, home: Path, sandbox: Sandbox) -> None:
        super().__init__(daemon=True)
        self.seen: list[Event] = []
        self.changed = threading.Condition()
        self._events = Node(home).events(sandbox=sandbox.id, follow=True)

    def run(self) -> None:
        for event in self._events:
            with self.changed:
                self.seen.append(event)
                self.changed.notify_all()
            if event.kind == "sandbox.removed":
                return

    def until(self, count: int) -> list[str]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.seen) >= count, DEADLINE_SECONDS), kinds(self.seen)
            return kinds(self.seen)


def test_a_follower_misses_nothing_when_the_node_is_killed(real_home: Path) -> None:
    sandbox = Sandbox.create()
    follower = Follower(real_home, sandbox)
    follower.start()
    follower.until(1)
    sandbox.extend(600)
    follower.until(2)
    kill(int(Node().health()["pid"]))
    assert Node().health()["status"] == "ok"
    sandbox.extend(700)
    sandbox.remove()
    follower.join(DEADLINE_SECONDS)
    assert kinds(follower.seen) == ["created", "extended", "extended", "removed"]
    assert kinds(list(Node().events(sandbox=sandbox.id))) == kinds(follower.seen)
    assert [event.id for event in follower.seen] == sorted({event.id for event in follower.seen})


def test_what_sandboxes_use(sandbox: Sandbox) -> None:
    run = sandbox.spawn("sh", "-c", "dd if=/dev/zero of=fill bs=1M count=8 2>&-; echo full; exec sleep 1000")
    assert next(run.stdout) == b"full\n"
    (use,) = [use for use in Node().stats().sandboxes if use.sandbox.id == sandbox.id]
    assert use.stats.processes is not None and use.stats.processes >= 1
    assert use.stats.disk_bytes is not None and use.stats.disk_bytes >= 8 << 20
    assert use.stats.sent_bytes is None
    if use.stats.cpu_seconds is not None:
        assert use.stats.cpu_seconds > 0
        assert use.stats.memory_bytes is not None and use.stats.memory_limit_bytes == 512 << 20
    run.kill()
