"""What happened to a sandbox (Event), and the values in which sandboxes are asked for and counted."""

from __future__ import annotations

from typing import Any

import msgspec

from cloche.model.lifecycle import State
from cloche.model.sandbox import Sandbox

DEFAULT_PROJECT = "default"
MAX_PAGE = 1000


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """`kind` is "sandbox.created", "sandbox.stopped", …; `at` UTC seconds; `data` small JSON (`reason`, …)."""

    id: str
    project_id: str
    sandbox_id: str
    at: float
    kind: str
    data: dict[str, Any] = {}


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Events with an id above `after`, from `since` (UTC seconds) on, of one sandbox and of these kinds; empty `kinds`
    or None: any. `limit`: at most so many, the oldest of them."""

    after: str = ""
    sandbox_id: str | None = None
    kinds: frozenset[str] = frozenset()
    since: float | None = None
    limit: int = 200


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Oldest first. `cursor` is the `after` of the next page; `more`: it may have events already. `lost`: events after
    the `after` that was asked for may be gone, because only so many are kept."""

    events: list[Event]
    cursor: str
    more: bool = False
    lost: bool = False


class SandboxQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`labels`: key → the value wanted, or None for "has this label". Empty `states`: any state.
    `cursor` is the `next_cursor` of the page before."""

    labels: dict[str, str | None] = {}
    states: frozenset[State] = frozenset()
    name: str | None = None
    limit: int = 100
    cursor: str | None = None


class SandboxPage(msgspec.Struct, frozen=True, kw_only=True):
    """Oldest first. `next_cursor` is None on the last page."""

    sandboxes: list[Sandbox]
    next_cursor: str | None = None


class SandboxStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox uses now. None where the engine cannot tell; `time` is UTC seconds."""

    time: float
    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    memory_limit_bytes: int | None = None
    pids: int | None = None
    pids_limit: int | None = None
    disk_bytes: int | None = None
    disk_limit_bytes: int | None = None
    processes: int | None = None
    sent_bytes: int | None = None
    received_bytes: int | None = None


class SandboxUse(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox and what it uses."""

    sandbox: Sandbox
    stats: SandboxStats


class NodeStats(msgspec.Struct, frozen=True, kw_only=True):
    """Every living sandbox, oldest first. `time` is UTC seconds."""

    time: float
    sandboxes: list[SandboxUse]
