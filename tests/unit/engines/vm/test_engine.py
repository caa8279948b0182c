"""What the engine does with a machine that a killed node has left standing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloche.engines.base import Box, BoxStatus
from cloche.engines.vm import engine as module
from cloche.engines.vm.engine import CAPTURING, VmEngine
from cloche.model.errors import TimedOutError
from cloche.model.sandbox import SandboxSpec

pytestmark = pytest.mark.anyio


class Standing(VmEngine):
    """Its machine goes on when `able`; without, its guest refuses, or says nothing at all."""

    able = True
    silent = False

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.resumed = 0

    async def resume(self, box: Box) -> None:
        if self.silent:
            await asyncio.Event().wait()
        if not self.able:
            raise TimedOutError("the guest did not answer")
        self.resumed += 1

    async def _as_qemu_says(self, box: Box) -> BoxStatus:
        return BoxStatus(status="running")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(sandbox_id="sb_1", spec=SandboxSpec(), run_dir=str(tmp_path), state_dir="", engine_state={})


async def test_it_goes_on_once(tmp_path: Path, box: Box) -> None:
    engine, marker = Standing(tmp_path), tmp_path / CAPTURING
    marker.write_text("running")
    assert (await engine._after_crash(box)).status == "running"
    assert (engine.resumed, marker.exists()) == (1, False)


@pytest.mark.parametrize("was", ["paused", ""])
async def test_one_that_was_paused_or_not_stopped_yet_is_left_as_it_is(tmp_path: Path, box: Box, was: str) -> None:
    engine, marker = Standing(tmp_path), tmp_path / CAPTURING
    marker.write_text(was)
    await engine._after_crash(box)
    assert (engine.resumed, marker.exists()) == (0, False)


@pytest.mark.parametrize("silent", [False, True])
async def test_who_asks_next_tries_again(
    tmp_path: Path, box: Box, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code stays frozen until it is told to go on: that must not be forgotten."""
    monkeypatch.setattr(module, "GO_ON_SECONDS", 0.01)
    engine, marker = Standing(tmp_path), tmp_path / CAPTURING
    engine.able, engine.silent = False, silent
    marker.write_text("running")
    await engine._after_crash(box)
    assert marker.exists()
    engine.able, engine.silent = True, False
    monkeypatch.undo()
    await engine._after_crash(box)
    assert (engine.resumed, marker.exists()) == (1, False)
