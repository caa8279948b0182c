# Made from ../_async/node.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""The node itself: is it well, what can this machine do, what did it log, leave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloche.sdk import wire
from cloche.sdk._sync import bridge
from cloche.sdk._sync.transport import Transport
from cloche.sdk.launch import default_home


class Node:
    """The node of a data directory (default: CLOCHE_HOME). It is started on the first call."""

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self.home = Path(os.path.abspath(home)) if home is not None else Path(os.path.abspath(default_home()))
        shared = bridge.shared()
        if self.home not in shared:
            shared[self.home] = Transport(self.home)
        self.transport: Transport = shared[self.home]

    def health(self) -> dict[str, Any]:
        """`status`, `version`, `pid`, `home`, `uptime_seconds`, `engine` (what "auto" means here), …"""
        return wire.as_dict(self.transport.ask("GET", "/v1/health"))

    def doctor(self) -> dict[str, Any]:
        """`checks` (engine, id, status, summary, remedy, required), `engines` (name, usable, …) and `auto`."""
        return wire.as_dict(self.transport.ask("GET", "/v1/doctor"))

    def events(self, ref: str) -> list[dict[str, Any]]:
        """What happened to a sandbox, oldest first."""
        answer = wire.as_dict(self.transport.ask("GET", f"/v1/sandboxes/{wire.segment(ref)}/events"))
        return list(answer.get("events", []))

    def logs(self, *, lines: int = 200, follow: bool = False) -> Iterator[bytes]:
        """The node's log, one JSON object a line, with its newline."""
        # a log has no keepalives, so silence means nothing while it is followed
        reply = self.transport.open(
            "GET", "/v1/node/logs", query={"lines": lines, "follow": follow}, seconds=86400.0 if follow else 60.0
        )
        buffer = b""
        try:
            for chunk in reply.chunks():
                *whole, buffer = (buffer + chunk).split(b"\n")
                for line in whole:
                    yield line + b"\n"
        finally:
            reply.close()

    def shutdown(self, *, stop_sandboxes: bool = False) -> None:
        """Ask it to leave. Sandboxes go on, and the next node adopts them, unless they are to be stopped."""
        self.transport.ask("POST", "/v1/node/shutdown", json={"stop_sandboxes": stop_sandboxes})
        self.transport.close()
