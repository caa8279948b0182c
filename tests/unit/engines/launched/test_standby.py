"""The launcher in waiting: taken once, replaced, never one that is dead or old, and gone with whoever kept it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cloche.engines.launched import standby, supervisor
from cloche.engines.launched.standby import Standby

READY = """read -r plan; echo '{"ok": true}'"""
FAILED = """read -r plan; echo '{"failure": {"stage": "overlay", "message": "no", "errno": 5}}'"""


def program(directory: Path, text: str = READY) -> Path:
    """A launcher that counts in `starts` and ends as soon as its standard input does."""
    place = directory / "launcher"
    place.write_text(f"#!/bin/sh\necho $$ >> {directory}/starts\n{text}\n")
    place.chmod(0o755)
    return place


def starts(directory: Path) -> list[int]:
    return [int(line) for line in (directory / "starts").read_text().split()]


class Told(Standby):
    """One that says when there is a launcher in waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.filled = threading.Event()

    def _fill(self, launcher: Path) -> None:
        super()._fill(launcher)
        self.filled.set()


async def filled(kept: Told, launcher: Path) -> None:
    kept.filled.clear()
    kept.refill(launcher)
    assert await asyncio.to_thread(kept.filled.wait, 10)


def plan(directory: Path) -> dict[str, object]:
    return {"run_dir": str(directory), "binds": []}


def test_it_is_taken_once_and_makes_the_box(tmp_path):
    launcher = program(tmp_path)

    async def scenario():
        kept = Told()
        assert kept.take(launcher) is None
        await filled(kept, launcher)
        waiting = kept.take(launcher)
        assert waiting is not None and kept.take(launcher) is None
        assert await supervisor.launch(launcher, plan(tmp_path), waiting) == {"ok": True}

    asyncio.run(scenario())
    assert len(starts(tmp_path)) == 1


def test_one_that_was_killed_or_is_not_that_program_any_more_is_not_taken(tmp_path):
    launcher = program(tmp_path)

    async def scenario():
        kept = Told()
        await filled(kept, launcher)
        process = kept._held[0]
        process.kill()
        process.wait()
        assert kept.take(launcher) is None
        await filled(kept, launcher)
        old = kept._held[0]
        launcher.unlink()
        assert kept.take(program(tmp_path)) is None
        assert old.poll() is not None

    asyncio.run(scenario())


@pytest.mark.parametrize("last_word", ["exit 0", "read -r plan; exit 1"])
def test_one_that_dies_with_the_plan_in_its_hands_is_replaced(tmp_path, last_word):
    dying = tmp_path / "dying"
    dying.mkdir()

    async def scenario():
        waiting = supervisor.start(program(dying, last_word))
        assert await supervisor.launch(program(tmp_path), plan(tmp_path), waiting) == {"ok": True}

    asyncio.run(scenario())


def test_what_it_says_went_wrong_is_not_tried_again(tmp_path):
    launcher = program(tmp_path, FAILED)

    async def scenario():
        kept = Told()
        await filled(kept, launcher)
        with pytest.raises(Exception, match="overlay"):
            await supervisor.launch(launcher, plan(tmp_path), kept.take(launcher))

    asyncio.run(scenario())
    assert len(starts(tmp_path)) == 1


def test_it_goes_when_nobody_asks_for_a_while_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(standby, "QUIET_SECONDS", 0.05)
    launcher = program(tmp_path)

    async def scenario():
        kept = Told()
        await filled(kept, launcher)
        process = kept._held[0]
        await kept._keeper
        assert kept._held is None and process.returncode is not None
        await filled(kept, launcher)

    asyncio.run(scenario())


def test_it_ends_with_the_loop(tmp_path):
    launcher = program(tmp_path)
    kept = Told()

    async def scenario():
        await filled(kept, launcher)
        return kept._held[0]

    assert asyncio.run(scenario()).returncode is not None
    assert kept._held is None


def test_it_can_be_switched_off(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOCHE_STANDBY", "0")
    launcher = program(tmp_path)
    kept = Told()

    async def scenario():
        kept.refill(launcher)

    asyncio.run(scenario())
    assert kept._keeper is None
