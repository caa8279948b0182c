"""A real node with sandboxes that wait, seen from outside: quick, whole, gone when the node leaves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloche import Node, NotFoundError, Sandbox
from cloche.model.pool import PoolInfo
from cloche.sdk.options import SandboxOptions
from tests.integration.node_harness import end_node, namespace_home, node_pid, wait_for_exit

SIZE = 2
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def pool_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with namespace_home(tmp_path_factory.mktemp("node") / "home", CLOCHE_POOL_SIZE=str(SIZE)) as place:
        yield place


def until(holds: Callable[[], object]) -> None:
    """Ask the node again and again: nothing tells a client when a pool is full."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"it never came true: {Node().pool()}"
        time.sleep(0.02)


def pool(template: str | None = None) -> PoolInfo | None:
    found = (each for each in Node().pool().pools if (template in each.templates if template else each.plain))
    return next(found, None)


def known(template: str | None = None) -> PoolInfo:
    found = pool(template)
    assert found is not None, template
    return found


def full(template: str | None = None) -> bool:
    found = pool(template)
    return found is not None and found.ready == found.wanted


def test_a_waiting_sandbox_is_what_a_new_one_would_be(pool_home: Path) -> None:
    until(full)
    before = known()
    engines = {found["name"]: found["capabilities"] for found in Node().doctor()["engines"]}
    memory = "64m" if "memory" in engines["namespace"]["limits_enforced"] else None
    late: SandboxOptions = {"name": "mine", "env": {"A": "1"}, "labels": {"k": "v"}, "pids": 99, "memory": memory}
    with Sandbox.create(session_env={"B": "2"}, **late) as sandbox:
        info = sandbox.info()
        assert known().hits == before.hits + 1
        assert (info.name, info.labels, info.limits.pids, info.project_id) == ("mine", {"k": "v"}, 99, "default")
        assert sandbox.exec("sh", "-c", "echo $A $B; hostname").stdout == f"1 2\n{sandbox.id.replace('_', '-')}\n"
        events = list(Node().events(sandbox=sandbox.id))
        assert [(event.kind, event.data.get("pool")) for event in events] == [("sandbox.created", True)]
        if memory:
            assert sandbox.stats().memory_limit_bytes == 64 << 20
            hungry = sandbox.exec("sh", "-c", "a=0123456789abcdef; while :; do a=$a$a; done")
            assert (hungry.exit_code, hungry.limit_hit) == (137, "memory")


def test_a_claimed_sandbox_expires(pool_home: Path) -> None:
    until(full)
    before = known()
    made = Sandbox.create(ttl_seconds=0.3)
    assert known().hits == before.hits + 1

    def is_gone() -> bool:
        try:
            made.info()
        except NotFoundError:
            return True
        return False

    until(is_gone)


def test_it_keeps_its_late_limits_over_a_restart(pool_home: Path) -> None:
    until(full)
    with Sandbox.create(pids=77, open_files=99) as sandbox:
        sandbox.stop(grace_seconds=0)
        sandbox.start()
        assert sandbox.info().limits.pids == 77
        limits = sandbox.exec("cat", "/proc/self/limits").stdout
        assert next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files")) == "99"


def test_what_waits_is_seen_by_nobody(pool_home: Path) -> None:
    until(full)
    waiting = {path.name for path in (pool_home / "run").iterdir()}
    assert len(waiting) >= SIZE
    assert not waiting & {info.id for info in Sandbox.list()}
    for sandbox_id in waiting:
        with pytest.raises(NotFoundError):
            Sandbox.from_id(sandbox_id)


def test_a_template_keeps_contexts_warm(pool_home: Path) -> None:
    node = Node()
    node.templates.set("warm", warm=1, contexts={"python": "import json\nready = 41"}, env={"A": "1"})
    until(lambda: full("warm"))
    before = known("warm")
    with Sandbox.create(template="warm") as sandbox:
        assert known("warm").hits == before.hits + 1
        assert sandbox.run_code("ready + 1").text == "42"
    with Sandbox.create(template="warm", env={"A": "2"}) as other:
        assert other.run_code("import os; ready, os.environ['A']").text == "(41, '2')"
    assert known("warm").misses == {"env": 1}
    node.templates.remove("warm")
    until(lambda: pool("warm") is None)


def test_a_template_whose_code_fails_says_so(pool_home: Path) -> None:
    Node().templates.set("broken", warm=1, contexts={"python": "1/0"})
    until(lambda: (found := pool("broken")) is not None and found.error)
    assert "ZeroDivisionError" in (known("broken").error or "")
    Node().templates.remove("broken")


def test_a_node_that_leaves_takes_its_pool_along(pool_home: Path) -> None:
    until(full)
    kept = Sandbox.create(name="kept")
    end_node(pool_home)
    assert [path.name for path in (pool_home / "run").iterdir()] == [kept.id]
    assert kept.exec("true").ok, "a new node has adopted it"
    until(full)
    kept.remove()


def test_a_node_with_nothing_but_a_pool_is_idle(pool_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end_node(pool_home)
    monkeypatch.setenv("CLOCHE_NODE_IDLE_SECONDS", "0.5")
    Node().health()
    pid = node_pid(pool_home)
    wait_for_exit(pid)
    assert os.listdir(pool_home / "run") == []
