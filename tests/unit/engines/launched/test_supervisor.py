"""Starting a launcher: one that hangs, one that dies and a caller who gives up."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cloche.engines.launched import supervisor
from cloche.model.errors import EngineError


def program(directory: Path, text: str) -> Path:
    place = directory / "launcher"
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(0o755)
    return place


def test_a_launcher_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "READY_TIMEOUT_SECONDS", 0.2)
    hanging = program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    with pytest.raises(EngineError, match="not made within"):
        asyncio.run(supervisor.launch(hanging, {"run_dir": str(tmp_path)}))
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_launcher_without_a_word_is_an_error(tmp_path):
    with pytest.raises(EngineError, match="ended without a word"):
        asyncio.run(supervisor.launch(program(tmp_path, "exit 3"), {"run_dir": str(tmp_path), "binds": []}))


def test_who_gives_up_waits_for_what_cannot_be_stopped():
    started, go_on, order = threading.Event(), threading.Event(), []

    def work():
        started.set()
        go_on.wait(10)
        order.append("work")

    async def scenario():
        task = asyncio.ensure_future(supervisor.uninterrupted(work))
        await asyncio.to_thread(started.wait, 10)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        order.append("caller")

    asyncio.run(scenario())
    assert order == ["work", "caller"]
