"""Cloche's own figures: the whole command line, the SDK against a warm node, and the bare launcher as the floor."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Action, Contestant, Unavailable, WrongResult, command

if TYPE_CHECKING:
    from cloche import Sandbox

COMMAND = Path(sys.executable).parent / "cloche"
SDK = "SDK, node warm"
CONTENT = "x" * 1024
#: a sandbox that waits in a pool usually was not made just now: the node has ended what follows on making one
SETTLED_SECONDS = 0.03


def ours() -> list[Contestant]:
    return [
        Contestant("cloche run -- true", "one command", _run, goal_ms=120),
        Contestant("bare launcher, true", "one command", _launcher),
        Contestant("cloche --help", "command line", _help, goal_ms=100),
        Contestant("python3 -c pass (its floor)", "command line", _python),
        Contestant("create, exec true, remove", SDK, _create_exec_remove, goal_ms=10),
        Contestant("create, exec true; from a warm pool", SDK, _from_pool, goal_ms=5),
        Contestant("create, run_code; from a pool of contexts", SDK, _cell_from_pool, goal_ms=5),
        Contestant("exec true in a running sandbox", SDK, _exec, goal_ms=3),
        Contestant('run_code("1+1") in a live context', SDK, _cell, goal_ms=2),
        Contestant("write a 1 KiB file", SDK, _write, goal_ms=1.5),
        Contestant("read a 1 KiB file", SDK, _read, goal_ms=1.5),
    ]


@contextlib.contextmanager
def _run() -> Iterator[Action]:
    yield command([str(COMMAND), "run", "--", "true"])


@contextlib.contextmanager
def _help() -> Iterator[Action]:
    yield command([str(COMMAND), "--help"])


@contextlib.contextmanager
def _python() -> Iterator[Action]:
    yield command([sys.executable, "-c", "pass"])


@contextlib.contextmanager
def _create_exec_remove() -> Iterator[Action]:
    from cloche import Sandbox

    def once() -> None:
        with Sandbox.create() as sandbox:
            _expect_success(sandbox.exec("true").exit_code)

    yield once


@contextlib.contextmanager
def _from_pool() -> Iterator[Action]:
    from cloche import Sandbox

    with _waiting("benchmark") as settled:

        def once() -> Action:
            sandbox = Sandbox.create(template="benchmark")
            _expect_success(sandbox.exec("true").exit_code)
            return lambda: settled(sandbox)

        yield once


@contextlib.contextmanager
def _cell_from_pool() -> Iterator[Action]:
    from cloche import Sandbox

    with _waiting("benchmark-python", contexts={"python": "import json"}) as settled:

        def once() -> Action:
            sandbox = Sandbox.create(template="benchmark-python")
            if sandbox.run_code("json.dumps(1 + 1)").text != "'2'":
                raise WrongResult("one and one is not two")
            return lambda: settled(sandbox)

        yield once


@contextlib.contextmanager
def _waiting(template: str, **warm: Any) -> Iterator[Callable[[Sandbox], None]]:
    """A pool with one sandbox; yields what removes the one that was taken and waits for the next."""
    from cloche import Node

    node = Node()

    def settle(taken: Sandbox | None) -> None:
        if taken is not None:
            taken.remove()
        deadline = time.monotonic() + 30
        while not any(template in pool.templates and pool.ready for pool in node.pool().pools):
            if time.monotonic() > deadline:
                raise Unavailable("the pool is not filled")
            time.sleep(0.01)
        time.sleep(SETTLED_SECONDS)

    # another disk than the default: a create that names no template must not find what waits here
    node.templates.set(template, warm=1, disk="1000m", **warm)
    try:
        settle(None)
        yield settle
    finally:
        node.templates.remove(template)


@contextlib.contextmanager
def _exec() -> Iterator[Action]:
    from cloche import Sandbox

    with Sandbox.create() as sandbox:
        yield lambda: _expect_success(sandbox.exec("true").exit_code)


@contextlib.contextmanager
def _cell() -> Iterator[Action]:
    from cloche import Sandbox

    with Sandbox.create() as sandbox:

        def once() -> None:
            if sandbox.run_code("1+1").text != "2":
                raise WrongResult("one and one is not two")

        yield once


@contextlib.contextmanager
def _write() -> Iterator[Action]:
    from cloche import Sandbox

    with Sandbox.create() as sandbox:
        yield lambda: _expect_size(sandbox.files.write("note.txt", CONTENT).size)


@contextlib.contextmanager
def _read() -> Iterator[Action]:
    from cloche import Sandbox

    with Sandbox.create() as sandbox:
        sandbox.files.write("note.txt", CONTENT)
        yield lambda: _expect_size(len(sandbox.files.read("note.txt")))


def _expect_size(size: int) -> None:
    if size != len(CONTENT):
        raise WrongResult(f"the file has {size} bytes")


def _expect_success(exit_code: int | None) -> None:
    if exit_code:
        raise WrongResult(f"true ended with {exit_code}")


@contextlib.contextmanager
def _launcher() -> Iterator[Action]:
    """The launcher alone, with the plan of a real sandbox but `true` in the guest's place."""
    from cloche.engines.base import Box
    from cloche.engines.namespace import plan
    from cloche.engines.namespace.engine import NamespaceEngine
    from cloche.model.sandbox import SandboxSpec

    with tempfile.TemporaryDirectory(prefix="cloche-bench-") as directory:
        engine, spec, sandbox_id = NamespaceEngine(Path(directory)), SandboxSpec(), "sb_" + "0" * 26
        state = engine.plan(sandbox_id, spec)
        box = Box(sandbox_id=sandbox_id, spec=spec, run_dir=directory, state_dir=directory, engine_state=state)
        text = json.dumps(plan.launcher_plan(dataclasses.replace(engine.facts, guest=Path("/usr/bin/true")), box))
        try:
            yield lambda: _supervise(engine.facts.launcher, text)
        finally:
            asyncio.run(engine.remove(box))


def _supervise(launcher: Path, plan: str) -> None:
    argv = [str(launcher), "supervise"]
    done = subprocess.run(argv, input=plan, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=10)
    if not json.loads(done.stdout).get("ok"):
        raise WrongResult(f"the launcher said {done.stdout[:200]}")
