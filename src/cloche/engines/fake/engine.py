"""The fake engine: sandboxes in memory, for tests. It isolates nothing and runs nothing but a few scripted commands.

It is honest: what a real engine refuses it refuses, what dies dies with a reason, and it can be told to fail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cloche.engines.base import Box, BoxStatus, BoxUsage, Capabilities, Check, Manifest, WithoutSetup
from cloche.engines.fake import captures
from cloche.engines.fake.box import KILLED, MACHINES, FakeBox, machine
from cloche.engines.fake.filesystem import Filesystem
from cloche.engines.fake.streams import MemoryChannel
from cloche.model.errors import (
    ClocheError,
    EngineError,
    LimitUnenforceableError,
    NeedsSubuidError,
    SandboxDeadError,
    UnavailableError,
)
from cloche.model.limits import ResolvedLimits
from cloche.model.sandbox import SandboxSpec

STATE_VERSION = 1
ENFORCED = frozenset({"pids", "disk"})
GONE = BoxStatus(status="gone")


class FakeEngine(WithoutSetup):
    """`fail_next(stage, error)` makes the next call of that name fail; "create:half", "start:half", "restore:half" and
    "capture:half" fail with the box or the capture half made."""

    name = "fake"

    def __init__(self, home: Path) -> None:
        self._home = home
        self._faults: dict[str, ClocheError] = {}

    @property
    def _boxes(self) -> dict[str, FakeBox]:
        return machine(self._home)

    def fail_next(self, stage: str, error: ClocheError) -> None:
        self._faults[stage] = error

    def kill_guest(self, sandbox_id: str, reason: str = "guest_died", exit_code: int = KILLED) -> None:
        """The guest dies by itself, as PID 1 of a real box can."""
        self._boxes[sandbox_id].end(reason, exit_code)

    def fill_disk(self, sandbox_id: str) -> None:
        """From now on every write that needs room finds none."""
        self._boxes[sandbox_id].files.limit_bytes = 0

    async def check(self) -> list[Check]:
        return [Check(id="fake.memory", status="info", summary="in memory, isolates nothing: for tests only")]

    async def capabilities(self) -> Capabilities:
        return Capabilities(isolation="none", pause=True, suspend=True, memory_snapshot=True, fork=True,
                            restart_keeps_disk=True, limits_enforced=ENFORCED, late_limits=True)  # fmt: skip

    def plan(self, sandbox_id: str, spec: SandboxSpec) -> dict[str, Any]:
        spec.check()
        if spec.isolation not in (None, "none"):
            raise UnavailableError(f"the fake engine isolates nothing, and {spec.isolation} was asked for",
                                   remedy="use another engine")  # fmt: skip
        if spec.image != "host":
            raise UnavailableError(f"the fake engine has no image {spec.image!r}", remedy="use image 'host'")
        if spec.mounts or spec.host_paths:
            raise UnavailableError("the fake engine shows no host paths", remedy="use another engine")
        if spec.user != "user":
            raise NeedsSubuidError(f"the fake engine has no user {spec.user!r}", remedy="use the user 'user'")
        _require_enforced(spec)
        return {"version": STATE_VERSION, "box": sandbox_id}

    async def create(self, box: Box) -> None:
        self._fail("create")
        if box.sandbox_id in self._boxes:
            raise EngineError(f"there is a box for {box.sandbox_id} already", stage="create")
        limits = box.spec.limits.resolved()
        made = FakeBox(box.sandbox_id, limits, Filesystem(limits.disk_mib << 20))
        self._boxes[box.sandbox_id] = made
        self._fail("create:half")
        made.boot()
        made.set_deadline(box.deadline)

    async def start(self, box: Box) -> None:
        self._fail("start")
        old = self._boxes.get(box.sandbox_id)
        if old is None or old.alive or not old.keeps_disk:
            raise EngineError(f"no disk of {box.sandbox_id} was kept to start from", stage="start")
        made = FakeBox(box.sandbox_id, box.spec.limits.resolved(), old.files)
        made.keeps_disk = True
        self._boxes[box.sandbox_id] = made
        self._fail("start:half")
        made.boot()
        made.set_deadline(box.deadline)

    async def open_channel(self, box: Box) -> MemoryChannel:
        self._fail("open_channel")
        found = self._alive(box)
        return MemoryChannel(found.connect)

    async def status(self, box: Box) -> BoxStatus:
        found = self._boxes.get(box.sandbox_id)
        return GONE if found is None else found.status()

    async def wait(self, box: Box) -> BoxStatus:
        found = self._boxes.get(box.sandbox_id)
        if found is not None and found.alive:
            await found.ended.wait()
        return GONE if found is None else found.status()

    async def set_deadline(self, box: Box, deadline: float | None) -> None:
        self._fail("set_deadline")
        self._alive(box).set_deadline(deadline)

    def fixed_limits(self, box: Box, limits: ResolvedLimits) -> list[str]:
        return ["disk"] if limits.disk_mib != box.spec.limits.resolved().disk_mib else []

    async def set_limits(self, box: Box, limits: ResolvedLimits) -> dict[str, Any]:
        self._fail("set_limits")
        self._alive(box)
        return box.engine_state

    async def pause(self, box: Box) -> None:
        self._fail("pause")
        self._alive(box).freeze(True)

    async def resume(self, box: Box) -> None:
        self._fail("resume")
        self._alive(box).freeze(False)

    async def capture(self, box: Box, directory: str, *, resume: bool = True, lasting: bool = True) -> Manifest:
        self._fail("capture")
        found = self._alive(box)
        was_running = found.status().status == "running"
        found.freeze(True)
        try:
            manifest = captures.write(found, Path(directory), lambda: self._fail("capture:half"))
        except BaseException:
            found.freeze(not was_running)
            raise
        found.freeze(not (was_running and resume))
        return manifest

    async def restore(self, box: Box, directory: str, manifest: Manifest, *, forked: bool) -> None:
        self._fail("restore")
        if box.sandbox_id in self._boxes:
            raise EngineError(f"there is a box for {box.sandbox_id} already", stage="restore")
        captures.check(Path(directory), manifest)
        memory, files = captures.read(Path(directory))
        made = self._boxes[box.sandbox_id] = FakeBox(box.sandbox_id, box.spec.limits.resolved(), files)
        self._fail("restore:half")
        made.boot()
        made.thaw(memory, forked=forked)
        made.set_deadline(box.deadline)

    async def verify(self, directory: str, manifest: Manifest) -> None:
        captures.check(Path(directory), manifest)

    async def usage(self, box: Box) -> BoxUsage:
        found = self._boxes.get(box.sandbox_id)
        return BoxUsage() if found is None else found.usage()

    async def stop(self, box: Box, *, keep_disk: bool) -> BoxStatus:
        self._fail("stop")
        found = self._boxes.get(box.sandbox_id)
        if found is None:
            return GONE
        found.end("stopped", KILLED)
        found.keeps_disk = keep_disk
        return found.status()

    async def remove(self, box: Box) -> None:
        self._fail("remove")
        self._discard(box.sandbox_id)

    async def close(self) -> None:
        return

    async def sweep(self, known: frozenset[str]) -> list[str]:
        strangers = sorted(set(self._boxes) - known)
        for sandbox_id in strangers:
            self._discard(sandbox_id)
        return strangers

    def _discard(self, sandbox_id: str) -> None:
        found = self._boxes.pop(sandbox_id, None)
        if found is not None:
            found.end("killed", KILLED)
        if not self._boxes:
            MACHINES.pop(self._home, None)

    def _alive(self, box: Box) -> FakeBox:
        found = self._boxes.get(box.sandbox_id)
        if found is None or not found.alive:
            reason = None if found is None else found.status().reason
            raise SandboxDeadError(f"sandbox {box.sandbox_id} does not run", reason=reason or "gone")
        return found

    def _fail(self, stage: str) -> None:
        error = self._faults.pop(stage, None)
        if error is not None:
            raise error


def _require_enforced(spec: SandboxSpec) -> None:
    missing = sorted(spec.limits.asked() - ENFORCED)
    if missing:
        raise LimitUnenforceableError(
            f"the fake engine cannot enforce {', '.join(missing)}",
            remedy="leave the limit out, or use another engine",
            limits=missing,
        )
