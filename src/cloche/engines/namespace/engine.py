"""The namespace engine: Linux namespaces around the guest, made by the launcher. No daemon, no root, no KVM."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

from cloche.channel.base import Channel
from cloche.channel.unix import UnixChannel
from cloche.engines.base import Box, Capabilities, Check, WithoutCaptures, WithoutSetup
from cloche.engines.launched import cgroups, supervisor
from cloche.engines.launched.engine import LaunchedEngine, forget_last_run, make_directories, may_run
from cloche.engines.launched.standby import Standby
from cloche.engines.namespace import checks, plan
from cloche.model.errors import ClocheError, EngineError, SandboxDeadError
from cloche.model.limits import ResolvedLimits
from cloche.model.sandbox import SandboxSpec


class NamespaceEngine(LaunchedEngine, WithoutCaptures, WithoutSetup):
    """One per data directory (`home`). See engines.base.Engine for what each method promises."""

    name = "namespace"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._standby = Standby()
        #: of the last box that was made, for a try or for a sandbox
        self._told: checks.Probed | None = None
        self._trying = asyncio.Lock()

    async def check(self) -> list[Check]:
        found, told = await checks.run(self.facts, self.home)
        self._told = told or self._told
        return found

    async def capabilities(self) -> Capabilities:
        layout = self.facts.cgroups
        return Capabilities(
            isolation="namespace",
            pause=bool(layout and layout.can_freeze),
            restart_keeps_disk=True,
            stop_copies_disk=True,
            many_users=self.facts.many_users,
            mounts=True,
            survives_node=True,
            limits_enforced=plan.enforced_limits(self.facts),
            late_limits=True,
            transparent_tcp=await self._redirects(),
        )

    async def _redirects(self) -> bool:
        """Only a box can tell."""
        async with self._trying:
            if self._told is None:
                with contextlib.suppress(ClocheError, OSError):
                    self._told = await checks.try_box(self.facts, self.home)
        return self._told is not None and not self._told.not_redirected

    def plan(self, sandbox_id: str, spec: SandboxSpec) -> dict[str, Any]:
        return plan.engine_state(self.facts, self.tag, sandbox_id, spec)

    async def create(self, box: Box) -> None:
        make_directories(box)
        await self._launch(plan.launcher_plan(self.facts, box))

    async def start(self, box: Box) -> None:
        make_directories(box)
        forget_last_run(Path(box.run_dir))
        saved = plan.saved_disk(box)
        restore = saved if os.path.exists(saved) else ""
        await self._launch(plan.launcher_plan(self.facts, box, restore=restore))

    async def _launch(self, wanted: dict[str, Any]) -> None:
        launcher = self.facts.launcher
        self._told = checks.told(await supervisor.launch(launcher, wanted, self._standby.take(launcher)))
        self._standby.refill(launcher)

    async def open_channel(self, box: Box) -> Channel:
        # a look at two files of our own; who listens behind the socket says the rest when a stream is opened
        if not may_run(Path(box.run_dir)):
            raise SandboxDeadError(f"sandbox {box.sandbox_id} is not running", reason="guest_died")
        return UnixChannel(str(Path(box.run_dir) / "guest.sock"))

    async def close(self) -> None:
        self._standby.close()

    def fixed_limits(self, box: Box, limits: ResolvedLimits) -> list[str]:
        return plan.fixed_limits(self.facts, box.spec.limits.resolved(), limits)

    async def set_limits(self, box: Box, limits: ResolvedLimits) -> dict[str, Any]:
        layout = self.facts.cgroups
        if layout is None:
            return box.engine_state
        groups = cgroups.groups(layout, self.tag, box.sandbox_id, limits)
        try:
            # a few writes into files of the kernel: a thread would cost more
            cgroups.rewrite(box.engine_state.get("cgroups", []), groups["cgroups"])
        except OSError as error:
            raise EngineError(f"the limits cannot be changed: {error}", stage="limits") from error
        return {**box.engine_state, **groups}
