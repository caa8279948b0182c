"""The engine contract. An engine makes a box around the guest, gives a way in, and takes the box away again.

It never learns what a process, a file or a policy is. `engine_state` is the engine's own JSON: it is written to the
store *before* `create` is called (`plan`), so whatever crashes, `remove` finds everything by it. All methods but
`plan` may block on I/O and are coroutines; none may block the event loop.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from cloche.channel.base import Channel
from cloche.model import progress
from cloche.model.errors import UnavailableError
from cloche.model.limits import ResolvedLimits
from cloche.model.sandbox import Isolation, SandboxSpec

GuestStatus = Literal["running", "paused", "exited", "gone"]
CheckStatus = Literal["ok", "missing", "degraded", "info"]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What this engine can do on this machine, now. Tests and clients branch on these, never on an engine's name."""

    isolation: Isolation
    pause: bool = False
    suspend: bool = False
    memory_snapshot: bool = False
    fork: bool = False
    restart_keeps_disk: bool = False
    stop_copies_disk: bool = False
    """`stop` writes the disk to `state_dir`, which needs as much room there as the disk holds."""
    transparent_tcp: bool = False
    many_users: bool = False
    mounts: bool = False
    survives_node: bool = False
    limits_enforced: frozenset[str] = frozenset()
    """Of "memory", "cpus", "pids", "disk", "open_files"."""
    emulated: bool = False
    """It works by emulating a processor, ten to twenty times slower: used when asked for by name, never by "auto"."""
    late_limits: bool = False
    """`fixed_limits` and `set_limits` are there: limits of a box that runs can be changed."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line of doctor. `remedy` is one command or setting; None when there is nothing to mend."""

    id: str
    status: CheckStatus
    summary: str
    remedy: str | None = None
    required: bool = False


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an engine is told about one sandbox. `run_dir` is a private directory (0700) that exists only
    between `create`/`start` and `remove`; `state_dir` holds what must survive a stop."""

    sandbox_id: str
    spec: SandboxSpec
    run_dir: str
    state_dir: str
    engine_state: dict[str, Any]
    deadline: float | None = None

    @property
    def hostname(self) -> str:
        """The one that was asked for, or made of the id: at most as long as Linux takes (HOST_NAME_MAX is 64)."""
        return (self.spec.hostname or self.sandbox_id.replace("_", "-"))[:63]


class BoxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`exited`: the guest has ended and `exit_code`/`reason` say how; `gone`: nothing of the box is left.
    Reasons: "stopped", "expired", "killed", "out_of_memory", "guest_died", "guest_panic", "monitor_died",
    "supervisor_lost"."""

    status: GuestStatus
    exit_code: int | None = None
    reason: str | None = None
    said: str | None = None
    """The last lines of its console, where it has one: its own words, of printable characters."""


class BoxUsage(msgspec.Struct, frozen=True, kw_only=True):
    """None where the engine cannot tell. CPU in seconds since the start, the others in bytes or a count, now."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    memory_limit_bytes: int | None = None
    pids: int | None = None
    disk_bytes: int | None = None
    disk_limit_bytes: int | None = None
    out_of_memory_kills: int | None = None
    processes: int | None = None
    """Of the sandbox, without the guest."""


Progress = progress.Progress
Report = progress.Report
Manifest = dict[str, Any]
"""What an engine wrote down of a capture: sizes, checksums, what a machine must have to restore it. Its own JSON, but
for `size_bytes`, what the capture takes on the disk by itself, and `files`, if it is there: an object whose keys are
the names of all files in the directory. Those are at most 64 plain files."""


class Engine(Protocol):
    name: str

    async def check(self) -> list[Check]:
        """What it needs and what it found. Usable when every `required` check is not "missing". Never raises."""

    async def capabilities(self) -> Capabilities:
        """Probed once and kept; raises nothing: an engine that cannot run here still declares its isolation."""

    def plan(self, sandbox_id: str, spec: SandboxSpec) -> dict[str, Any]:
        """The `engine_state` of a box to be made. No effects. Raises InvalidError, UnavailableError and its children
        (NeedsSubuidError, LimitUnenforceableError) for what this engine cannot promise."""

    async def create(self, box: Box) -> None:
        """Make the box and start the guest; returns when the channel can be opened. Raises EngineError, NoSpaceError.
        After a failure nothing is left that `remove` would not take away."""

    async def start(self, box: Box) -> None:
        """Like `create`, with the disk that `stop` kept."""

    async def open_channel(self, box: Box) -> Channel:
        """The way in, also after the node was restarted. Raises SandboxDeadError when the guest is not running."""

    async def status(self, box: Box) -> BoxStatus:
        """The truth, asked from the machine and not from memory. Raises nothing."""

    async def wait(self, box: Box) -> BoxStatus:
        """Return when the guest has ended. Cancellable."""

    async def set_deadline(self, box: Box, deadline: float | None) -> None:
        """Kill the box at this UTC time even when no node lives."""

    def fixed_limits(self, box: Box, limits: ResolvedLimits) -> list[str]:
        """Of the limits in which `limits` are not those of the box's spec: the names of those that cannot be changed
        while it runs. `open_files` is the guest's and never among them. Only where `capabilities.late_limits`."""

    async def set_limits(self, box: Box, limits: ResolvedLimits) -> dict[str, Any]:
        """Hold a box that runs to these limits from now on; returns the `engine_state` that it has with them. Only
        where `capabilities.late_limits`, and for what `fixed_limits` does not name. Raises EngineError; the box may
        then be between its old limits and the new ones."""

    async def pause(self, box: Box) -> None:
        """Freeze every process. Raises UnavailableError where `capabilities.pause` is false."""

    async def resume(self, box: Box) -> None: ...

    async def capture(self, box: Box, directory: str, *, resume: bool = True, lasting: bool = True) -> Manifest:
        """Write the memory and the disk of a box that runs or is paused, all of one moment, into `directory`: private,
        empty, on the data directory's disk. With `resume` it then goes on as it was; without it stays as it is, to be
        stopped. `lasting`: it is to be kept, and `verify` must find whatever happens to it; else it is for use at once.
        Only where `capabilities.memory_snapshot`. Raises UnavailableError, EngineError, NoSpaceError; then
        the box goes on, and what is in `directory` is worth nothing."""

    async def restore(self, box: Box, directory: str, manifest: Manifest, *, forked: bool) -> None:
        """Like `create`, from a capture, which stays as it is. `forked`: another box than the one captured, or one
        beside it; its guest is told before any user code runs. Raises UnavailableError, saying why, when this machine
        cannot run it, EngineError for a capture that is damaged."""

    async def verify(self, directory: str, manifest: Manifest) -> None:
        """Read a capture whole. Raises EngineError (what is damaged) and UnavailableError (what differs here)."""

    async def setup(self, options: dict[str, str], report: Report) -> None:
        """Fetch and build what this engine needs beside Cloche itself; what is there already is kept, what was begun
        goes on. Raises InvalidError for unknown options, UnavailableError, NoSpaceError; UnavailableError as well
        where there is nothing to set up."""

    async def usage(self, box: Box) -> BoxUsage: ...

    async def stop(self, box: Box, *, keep_disk: bool) -> BoxStatus:
        """End every process now (the guest was asked politely before) and, if asked, keep the disk in `state_dir`.
        Returns how the guest ended. Safe to call on a box that has ended already."""

    async def remove(self, box: Box) -> None:
        """Take away everything, in whatever half-made state it is. Safe to call twice."""

    async def close(self) -> None:
        """Let go of what waits for boxes to come. Boxes that were made go on. Raises nothing."""

    async def sweep(self, known: frozenset[str]) -> list[str]:
        """Remove what belongs to this data directory and to no sandbox in `known`; says what it removed."""


class WithoutCaptures:
    """For engines that cannot take the memory of a box."""

    name: str

    async def capture(self, box: Box, directory: str, *, resume: bool = True, lasting: bool = True) -> Manifest:
        raise self._no_captures()

    async def restore(self, box: Box, directory: str, manifest: Manifest, *, forked: bool) -> None:
        raise self._no_captures()

    async def verify(self, directory: str, manifest: Manifest) -> None:
        raise self._no_captures()

    def _no_captures(self) -> UnavailableError:
        return UnavailableError(
            f"engine {self.name!r} cannot capture the memory of a sandbox", remedy="--engine vm", engine=self.name
        )


class WithoutSetup:
    """For engines that need nothing beside Cloche itself."""

    name: str

    async def setup(self, options: dict[str, str], report: Report) -> None:
        raise UnavailableError(f"engine {self.name!r} needs no set-up", remedy="cloche doctor", engine=self.name)
