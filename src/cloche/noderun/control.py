"""The running node as its API sees it: health, doctor, log, and the wish to leave."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from cloche._version import __version__
from cloche.engines.base import Check
from cloche.model.errors import ClocheError
from cloche.model.events import MAX_PAGE, SandboxQuery
from cloche.noderun.engines import NodeEngines
from cloche.noderun.log import NodeLog
from cloche.service.doctor import machine_checks
from cloche.service.machine import look
from cloche.service.services import Services

API_VERSION = 1
log = logging.getLogger("cloche.node")


class Control:
    def __init__(self, home: str, node_id: str, services: Services, engines: NodeEngines, node_log: NodeLog) -> None:
        self._home, self._node_id = home, node_id
        self._services, self._engines, self._log = services, engines, node_log
        self._began = time.monotonic()
        self._leaving = asyncio.Event()
        self._auto: str | None = None
        self.stop_sandboxes = False

    async def health(self) -> Mapping[str, Any]:
        return {
            "status": "ok",
            "version": __version__,
            "api_version": API_VERSION,
            "min_api_version": API_VERSION,
            "node_id": self._node_id,
            "pid": os.getpid(),
            "home": self._home,
            "uptime_seconds": round(time.monotonic() - self._began, 3),
            "engine": await self._auto_engine(),
        }

    async def doctor(self) -> Mapping[str, Any]:
        machine = machine_checks(await asyncio.to_thread(look, self._home))
        engines = await self._engines.doctor()
        return {
            "checks": [
                *(_line(check, None) for check in machine),
                *(_line(check, found.name) for found in engines for check in found.checks),
            ],
            "engines": [
                {
                    "name": found.name,
                    "usable": found.usable,
                    "isolation": found.capabilities.isolation,
                    "capabilities": msgspec.to_builtins(found.capabilities),
                }
                for found in engines
            ],
            "auto": await self._auto_engine(),
        }

    def logs(self, *, lines: int, follow: bool) -> AsyncIterator[bytes]:
        return self._log.lines(lines, follow=follow)

    def leave(self, *, stop_sandboxes: bool = False) -> None:
        self.stop_sandboxes = self.stop_sandboxes or stop_sandboxes
        self._leaving.set()

    async def closing(self) -> None:
        await self._leaving.wait()

    async def stop_all(self) -> None:
        """Stop every sandbox that runs or is paused; what refuses is logged."""
        query = SandboxQuery(states=frozenset({"running", "paused"}), limit=MAX_PAGE)
        page = await self._services.sandboxes.find(query)
        await asyncio.gather(*(self._stop(sandbox.id) for sandbox in page.sandboxes))

    async def _stop(self, sandbox_id: str) -> None:
        try:
            await self._services.sandboxes.stop(sandbox_id)
        except ClocheError as error:
            log.warning("stop_failed", extra={"fields": {"sandbox": sandbox_id, "code": error.code}})

    async def _auto_engine(self) -> str | None:
        if self._auto is None:
            try:
                self._auto = (await self._engines.choose("auto", None)).name
            except ClocheError:
                return None
        return self._auto


def _line(check: Check, engine: str | None) -> dict[str, Any]:
    return {"engine": engine, **msgspec.structs.asdict(check)}
