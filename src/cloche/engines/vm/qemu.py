"""QEMU as a VMM of the engine: what each word of the engine is in QMP (monitor.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from cloche.channel.muxed import MuxChannel
from cloche.engines.launched.facts import Facts
from cloche.engines.vm import monitor, pages, vmms
from cloche.engines.vm.plan import Ground, Seat
from cloche.engines.vm.qmp import Qmp


class AskedQemu:
    def __init__(self, qmp: Qmp) -> None:
        self._qmp = qmp

    async def status(self) -> str:
        return await self._qmp.status()

    async def stop(self) -> None:
        await self._qmp.execute("stop")

    async def go_on(self) -> None:
        await self._qmp.execute("cont")

    async def save_devices(self, target: Path) -> None:
        await monitor.save_devices(self._qmp, target)

    async def save_pages(self, facts: Facts, seat: Seat, target: Path) -> None:
        assert seat.memory is not None
        await pages.save(facts.launcher, monitor.pid_of(Path(seat.run_dir)), Path(seat.memory), target)
        # copied by its number, which is another's once it has ended: who still answers has had it all along
        await self._qmp.status()


class Qemu:
    name: vmms.Name = "qemu"
    base: Literal["memory", "pages"] = "memory"
    ends_streams = False

    async def launch(
        self, facts: Facts, ground: Ground, seat: Seat, state: dict[str, Any], *, sandbox_id: str, words: str | None,
        deadline: float | None = None, owner: int = 0,
    ) -> None:  # fmt: skip
        await monitor.launch(
            facts, ground, seat, state, sandbox_id=sandbox_id, words=words, deadline=deadline, owner=owner
        )

    async def load(self, facts: Facts, seat: Seat, devices: Path, changed: Path | None) -> None:
        await monitor.load(facts, seat, devices, changed)

    @asynccontextmanager
    async def asked(self, run_dir: Path) -> AsyncIterator[AskedQemu]:
        async with await monitor.qmp(run_dir) as qmp:
            yield AskedQemu(qmp)

    def channel(self, run_dir: Path, answer_seconds: float) -> MuxChannel:
        return MuxChannel(self.channel_path(run_dir), answer_seconds=answer_seconds)

    def channel_path(self, run_dir: Path) -> Path:
        return run_dir / "channel.sock"
