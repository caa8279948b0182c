"""What differs between the VMMs that the engine uses: QEMU, and Firecracker where somebody has named it.

A driver keeps nothing between calls: a node that was restarted finds a machine by its run directory and its row, whose
`vmm` says which driver it has. Everything else (who is woken and frozen when, templates, forks, what is written down)
is the engine's, and the same for both.

- QEMU gets its files as descriptors and boots, or waits for a state, as soon as it runs. A capture is the devices'
  state and the pages that differ from what the memory began as. Its guest is behind a serial port with a multiplexer.
- Firecracker is configured over its API after it was started. A capture is the devices' state and the whole memory, as
  `pages`; whoever is restored from it has that file as its memory, privately. Its guest is behind a vsock, whose
  connections a capture ends."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from cloche.channel.base import Channel
from cloche.engines.launched.facts import Facts
from cloche.engines.vm.plan import Ground, Seat
from cloche.model.errors import UnavailableError

VARIABLE = "CLOCHE_VMM"
Name = Literal["qemu", "firecracker"]


class Asked(Protocol):
    """A VMM with its ear open. All raise EngineError when it refuses, and that or SandboxDeadError when it is gone."""

    async def status(self) -> str:
        """ "running", "paused", or something of its own."""

    async def stop(self) -> None: ...

    async def go_on(self) -> None: ...

    async def save_devices(self, target: Path) -> None:
        """Of a machine that is stopped, into a new file. Raises NoSpaceError."""

    async def save_pages(self, facts: Facts, seat: Seat, target: Path) -> None:
        """After `save_devices`. Raises NoSpaceError."""


class MovableChannel(Channel, Protocol):
    def moved(self, path: str | os.PathLike[str]) -> None: ...


class Vmm(Protocol):
    """`base`: which file of a capture is the memory of those that are restored from it. `ends_streams`: a capture ends
    what is open on the channel."""

    name: Name
    base: Literal["memory", "pages"]
    ends_streams: bool

    async def launch(
        self, facts: Facts, ground: Ground, seat: Seat, state: dict[str, Any], *, sandbox_id: str, words: str | None,
        deadline: float | None = None, owner: int = 0,
    ) -> None:  # fmt: skip
        """Start it, to boot with these `words` for its kernel, or without to wait for a state. Raises EngineError."""

    async def load(self, facts: Facts, seat: Seat, devices: Path, changed: Path | None) -> None:
        """Give one that waits its state and let it run. `changed`: pages that differ from the memory it began on."""

    def asked(self, run_dir: Path) -> AbstractAsyncContextManager[Asked]: ...

    def channel(self, run_dir: Path, answer_seconds: float) -> MovableChannel: ...

    def channel_path(self, run_dir: Path) -> Path: ...


def wanted() -> Name:
    """The VMM of new machines. `auto` is QEMU: Firecracker was never run by Cloche's tests, so it is named or not used.
    Raises UnavailableError."""
    said = os.environ.get(VARIABLE) or "auto"
    if said == "auto":
        return "qemu"
    for name in get_args(Name):
        if said == name:
            return name  # type: ignore[no-any-return]
    raise UnavailableError(f"{VARIABLE} is {said!r}", remedy=f"{VARIABLE}=auto, qemu or firecracker")


def of(state: dict[str, Any]) -> Vmm:
    """By the engine's state of a box; rows from before there was a choice have QEMU."""
    from cloche.engines.vm.firecracker import Firecracker
    from cloche.engines.vm.qemu import Qemu

    return Firecracker() if state.get("vmm") == "firecracker" else Qemu()


@asynccontextmanager
async def stopped(vmm: Vmm, run_dir: Path) -> AsyncIterator[Asked]:
    """Its processors stand still inside, and what its devices had begun is done."""
    async with vmm.asked(run_dir) as asked:
        was = await asked.status()
        await asked.stop()
        try:
            yield asked
        finally:
            if was == "running":
                await asked.go_on()
