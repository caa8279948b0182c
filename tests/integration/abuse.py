"""What the tests of abuse share: boxes of the namespace engine, and Python that runs inside."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloche.engines.bench import Bench, Done, Sandbox, bench
from cloche.engines.namespace.engine import NamespaceEngine

PATIENCE_SECONDS = 60.0


@pytest.fixture
async def boxes(tmp_path: Path) -> AsyncIterator[Bench]:
    missing = [
        check for check in await NamespaceEngine(tmp_path).check() if check.required and check.status == "missing"
    ]
    if missing:
        pytest.skip(f"the namespace engine cannot run here: {missing[0].summary}")
    async with bench(NamespaceEngine, tmp_path) as made:
        yield made


async def python(sandbox: Sandbox, code: str, *arguments: str, **options: object) -> Done:
    """Run a program inside to its end."""
    options.setdefault("timeout_seconds", PATIENCE_SECONDS)
    return await sandbox.exec("python3", "-I", "-c", textwrap.dedent(code), *arguments, **options)


async def alive(sandbox: Sandbox) -> None:
    """The guest answers, starts processes and serves files."""
    assert (await sandbox.guest.health()).pid == 1
    assert (await sandbox.exec("echo", "alive")).stdout == b"alive\n"
    assert "user" in await sandbox.names("/home")


async def over_a_stop(boxes: Bench, sandbox: Sandbox) -> Sandbox:
    """Stop it with its disk kept, and start it again."""
    await sandbox.guest.close()
    await boxes.engine.stop(sandbox.box, keep_disk=True)
    await boxes.engine.start(sandbox.box)
    return await boxes.enter(sandbox.box)
