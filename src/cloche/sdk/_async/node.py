"""The node itself: is it well, what can this machine do, what did it log, leave."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from cloche.model.egress import AuditPage
from cloche.model.events import Event
from cloche.model.pool import PoolReport
from cloche.sdk import wire
from cloche.sdk._async import bridge, events, setups
from cloche.sdk._async.snapshots import AsyncSnapshots
from cloche.sdk._async.templates import AsyncTemplates
from cloche.sdk._async.transport import AsyncTransport
from cloche.sdk.egress_values import PresetInfo, PresetInfoList
from cloche.sdk.launch import default_home
from cloche.sdk.setups import EngineSetup, EngineSetups, SetupProgress
from cloche.sdk.values import NodeUse

#: a node that is well answers this in milliseconds, also while it starts hundreds of sandboxes
HEALTH_SECONDS = 10.0


class AsyncNode:
    """The node of a data directory (default: CLOCHE_HOME). It is started on the first call."""

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self.home = Path(os.path.abspath(home)) if home is not None else Path(os.path.abspath(default_home()))
        shared = bridge.shared()
        if self.home not in shared:
            shared[self.home] = AsyncTransport(self.home)
        self.transport: AsyncTransport = shared[self.home]
        self.templates = AsyncTemplates(self.transport)
        self.snapshots = AsyncSnapshots(self.transport)

    async def health(self, *, timeout_seconds: float = HEALTH_SECONDS) -> dict[str, Any]:
        """`status`, `version`, `pid`, `home`, `uptime_seconds`, `engine` (what "auto" means here), … Raises
        TimedOutError."""
        return wire.as_dict(await self.transport.ask("GET", "/v1/health", seconds=timeout_seconds))

    async def doctor(self) -> dict[str, Any]:
        """`checks` (engine, id, status, summary, remedy, required), `engines` (name, usable, …) and `auto`."""
        return wire.as_dict(await self.transport.ask("GET", "/v1/doctor"))

    async def events(
        self, *, follow: bool = False, after: str = "", sandbox: str | None = None, kinds: Sequence[str] = (),
        since: float | None = None, limit: int | None = None,
    ) -> AsyncIterator[Event]:  # fmt: skip
        """What happened to all sandboxes, oldest first; with `follow` also what happens from now on, for ever.

        `after`: the id of an event, to go on behind it. `sandbox`: of one only: its id, name or a beginning of its id,
        and of a removed one its whole id. `kinds`: such as "sandbox.created". `since`: UTC seconds. `limit`: of what
        has happened only the newest so many. A node that restarts is waited for, and nothing is lost or doubled; an
        event of the kind "events.lost" says that so many happened that some are no longer kept.
        Raises NotFoundError, InvalidError, NodeUnreachableError."""
        asked = {"sandbox": sandbox, "kind": list(kinds), "since": since}
        async for event in events.stream(self.transport, asked, after=after, limit=limit, follow=follow):
            yield event

    async def stats(self) -> NodeUse:
        """What every living sandbox uses now; of one that does not answer in time nothing is known."""
        return wire.decode(await self.transport.ask("GET", "/v1/stats"), NodeUse)

    async def pool(self) -> PoolReport:
        """Sandboxes that wait ready, pool by pool, with hits and misses since the node started."""
        return wire.decode(await self.transport.ask("GET", "/v1/pool"), PoolReport)

    async def egress_log(
        self, *, sandbox: str | None = None, since: float | None = None, verdicts: Sequence[str] = (),
        host: str | None = None, limit: int = 1000,
    ) -> AuditPage:  # fmt: skip
        """What became of connections and requests of sandboxes, also of removed ones: the newest `limit`, oldest first.
        `since`: UTC seconds; `verdicts`: of "allowed", "denied", "failed", "limit", "revoked"."""
        query = {"sandbox": sandbox, "since": since, "verdict": ",".join(verdicts) or None, "host": host}
        answer = await self.transport.ask("GET", "/v1/audit/egress", query={**query, "limit": limit})
        return wire.decode(answer, AuditPage)

    async def egress_presets(self) -> list[PresetInfo]:
        """Rules that have a name, which policies may say: "pypi", "github" and so on."""
        return wire.decode(await self.transport.ask("GET", "/v1/egress/presets"), PresetInfoList).presets

    async def engine_setups(self) -> list[EngineSetup]:
        """Engines that need something beside Cloche itself, and what each lacks."""
        return wire.decode(await self.transport.ask("GET", "/v1/engines"), EngineSetups).engines

    async def setup(self, engine: str, **options: str) -> AsyncIterator[SetupProgress]:
        """Fetch and build what an engine needs, and tell how far that is; over when it is done. What is there already
        is kept. Whoever stops reading ends the work at its next safe point, and the next call goes on from there.

        `options` are the engine's own. For "vm": `kernel` and `modules` (absolute paths), `mirror`, `suite`,
        `keyring`, `proxy_http`, `proxy_https`, `proxy_no`; `update` and `verify` are on when "1".
        Raises InvalidError, UnavailableError, NoSpaceError, EngineError."""
        async for step in setups.stream(self.transport, engine, options):
            yield step

    async def logs(self, *, lines: int = 200, follow: bool = False) -> AsyncIterator[bytes]:
        """The node's log, one JSON object a line, with its newline."""
        # a log has no keepalives, so silence means nothing while it is followed
        reply = await self.transport.open(
            "GET", "/v1/node/logs", query={"lines": lines, "follow": follow}, seconds=86400.0 if follow else 60.0
        )
        try:
            async for line in reply.lines():
                yield line + b"\n"
        finally:
            await reply.aclose()

    async def shutdown(self, *, stop_sandboxes: bool = False) -> None:
        """Ask it to leave. Sandboxes go on, and the next node adopts them, unless they are to be stopped."""
        await self.transport.ask("POST", "/v1/node/shutdown", json={"stop_sandboxes": stop_sandboxes})
        await self.transport.aclose()
