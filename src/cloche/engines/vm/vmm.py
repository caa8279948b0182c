"""What a VMM driver offers that the engine does not use yet: vfkit's. What QEMU and Firecracker are to the engine is in
vmms.py.

A driver keeps nothing between calls: a node that was restarted finds the machine by its `Seating` alone. Starting the
program is the launcher's work; a driver only says what to start. vfkit gets paths in its arguments and boots at once.
It can pause, and neither capture nor restore."""

from __future__ import annotations

from typing import Protocol

import msgspec

from cloche.channel.base import Channel
from cloche.engines.vm.machine import Accelerator, Machine, VmmName


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """`captures`: `capture` and `restore` work; `partial_captures`: also of what changed alone. `drive_rates`: the
    limits of a drive hold. `read_only_drives`: a drive that is read-only cannot be written whatever the guest does."""

    accelerators: tuple[Accelerator, ...]
    pause: bool = True
    captures: bool = False
    partial_captures: bool = False
    drive_rates: bool = False
    read_only_drives: bool = True


class Seating(msgspec.Struct, frozen=True, kw_only=True):
    """Where one machine lives: `run_dir` is private (0700) and there as long as the machine is."""

    sandbox_id: str
    run_dir: str


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one capture, by their paths. Drives are the engine's to copy while the machine is paused."""

    state: str
    memory: str


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What the launcher starts. `directory`: where it starts it. What it writes to its standard output and error is the
    guest's console where `console_on_stdout`, and as hostile as the guest."""

    argv: list[str]
    directory: str
    console_on_stdout: bool = False


class Vmm(Protocol):
    """All raise SandboxDeadError when the VMM is gone, EngineError when it refuses or says what makes no sense,
    UnavailableError for what `abilities` denies."""

    name: VmmName
    abilities: Abilities

    def launch(self, machine: Machine, seating: Seating, *, incoming: bool) -> Launch:
        """Pure. `incoming`: to be given a state by `restore` instead of booting."""

    async def seat(self, machine: Machine, seating: Seating) -> None:
        """Make the files that the VMM opens by name, before it is started."""

    async def boot(self, machine: Machine, seating: Seating) -> None:
        """After the start: return when the machine runs. Its guest is still booting."""

    async def restore(self, machine: Machine, seating: Seating, captured: Captured, *, resume: bool) -> None:
        """After a start with `incoming`, in place of `boot`. The capture stays as it is, and has to for as long as the
        machine runs."""

    async def pause(self, seating: Seating) -> None: ...

    async def resume(self, seating: Seating) -> None: ...

    async def capture(self, seating: Seating, captured: Captured, *, partial: bool = False) -> None:
        """Of a machine that is paused, which it stays."""

    def channel(self, seating: Seating) -> Channel: ...

    async def unseat(self, seating: Seating) -> None:
        """Take away what `seat` and the VMM made outside `run_dir`. Safe to call twice."""
