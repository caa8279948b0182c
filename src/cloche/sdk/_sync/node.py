# Made from ../_async/node.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""The node itself: is it well, what can this machine do, what did it log, leave."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cloche.model.egress import AuditPage
from cloche.model.events import Event
from cloche.model.pool import PoolReport
from cloche.sdk import wire
from cloche.sdk._sync import bridge, events, setups
from cloche.sdk._sync.snapshots import Snapshots
from cloche.sdk._sync.templates import Templates
from cloche.sdk._sync.transport import Transport
from cloche.sdk.egress_values import PresetInfo, PresetInfoList
from cloche.sdk.launch import default_home
from cloche.sdk.setups import EngineSetup, EngineSetups, SetupProgress
from cloche.sdk.values import NodeUse

#: a node that is well answers this in milliseconds, also while it starts hundreds of sandboxes
HEALTH_SECONDS = 10.0


class Node:
    """The node of a data directory (default: CLOCHE_HOME). It is started on the first call."""

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self.home = Path(os.path.abspath(home)) if home is not None else Path(os.path.abspath(default_home()))
        shared = bridge.shared()
        if self.home not in shared:
            shared[self.home] = Transport(self.home)
        self.transport: Transport = shared[self.home]
        self.templates = Templates(self.transport)
        self.snapshots = Snapshots(self.transport)

    def health(self, *, timeout_seconds: float = HEALTH_SECONDS) -> dict[str, Any]:
        """`status`, `version`, `pid`, `home`, `uptime_seconds`, `engine` (what "auto" means here), … Raises
        TimedOutError."""
        return wire.as_dict(self.transport.ask("GET", "/v1/health", seconds=timeout_seconds))

    def doctor(self) -> dict[str, Any]:
        """`checks` (engine, id, status, summary, remedy, required), `engines` (name, usable, …) and `auto`."""
        return wire.as_dict(self.transport.ask("GET", "/v1/doctor"))

    def events(
        self, *, follow: bool = False, after: str = "", sandbox: str | None = None, kinds: Sequence[str] = (),
        since: float | None = None, limit: int | None = None,
    ) -> Iterator[Event]:  # fmt: skip
        """What happened to all sandboxes, oldest first; with `follow` also what happens from now on, for ever.

        `after`: the id of an event, to go on behind it. `sandbox`: of one only: its id, name or a beginning of its id,
        and of a removed one its whole id. `kinds`: such as "sandbox.created". `since`: UTC seconds. `limit`: of what
        has happened only the newest so many. A node that restarts is waited for, and nothing is lost or doubled; an
        event of the kind "events.lost" says that so many happened that some are no longer kept.
        Raises NotFoundError, InvalidError, NodeUnreachableError."""
        asked = {"sandbox": sandbox, "kind": list(kinds), "since": since}
        for event in events.stream(self.transport, asked, after=after, limit=limit, follow=follow):
            yield event

    def stats(self) -> NodeUse:
        """What every living sandbox uses now; of one that does not answer in time nothing is known."""
        return wire.decode(self.transport.ask("GET", "/v1/stats"), NodeUse)

    def pool(self) -> PoolReport:
        """Sandboxes that wait ready, pool by pool, with hits and misses since the node started."""
        return wire.decode(self.transport.ask("GET", "/v1/pool"), PoolReport)

    def egress_log(
        self, *, sandbox: str | None = None, since: float | None = None, verdicts: Sequence[str] = (),
        host: str | None = None, limit: int = 1000,
    ) -> AuditPage:  # fmt: skip
        """What became of connections and requests of sandboxes, also of removed ones: the newest `limit`, oldest first.
        `since`: UTC seconds; `verdicts`: of "allowed", "denied", "failed", "limit", "revoked"."""
        query = {"sandbox": sandbox, "since": since, "verdict": ",".join(verdicts) or None, "host": host}
        answer = self.transport.ask("GET", "/v1/audit/egress", query={**query, "limit": limit})
        return wire.decode(answer, AuditPage)

    def egress_presets(self) -> list[PresetInfo]:
        """Rules that have a name, which policies may say: "pypi", "github" and so on."""
        return wire.decode(self.transport.ask("GET", "/v1/egress/presets"), PresetInfoList).presets

    def engine_setups(self) -> list[EngineSetup]:
        """Engines that need something beside Cloche itself, and what each lacks."""
        return wire.decode(self.transport.ask("GET", "/v1/engines"), EngineSetups).engines

    def setup(self, engine: str, **options: str) -> Iterator[SetupProgress]:
        """Fetch and build what an engine needs, and tell how far that is; over when it is done. What is there already
        is kept. Whoever stops reading ends the work at its next safe point, and the next call goes on from there.

        `options` are the engine's own. For "vm": `kernel` and `modules` (absolute paths), `mirror`, `suite`,
        `keyring`, `proxy_http`, `proxy_https`, `proxy_no`; `update` and `verify` are on when "1".
        Raises InvalidError, UnavailableError, NoSpaceError, EngineError."""
        for step in setups.stream(self.transport, engine, options):
            yield step

    def logs(self, *, lines: int = 200, follow: bool = False) -> Iterator[bytes]:
        """The node's log, one JSON object a line, with its newline."""
        # a log has no keepalives, so silence means nothing while it is followed
        reply = self.transport.open(
            "GET", "/v1/node/logs", query={"lines": lines, "follow": follow}, seconds=86400.0 if follow else 60.0
        )
        try:
            for line in reply.lines():
                yield line + b"\n"
        finally:
            reply.close()

    def shutdown(self, *, stop_sandboxes: bool = False) -> None:
        """Ask it to leave. Sandboxes go on, and the next node adopts them, unless they are to be stopped."""
        self.transport.ask("POST", "/v1/node/shutdown", json={"stop_sandboxes": stop_sandboxes})
        self.transport.close()
