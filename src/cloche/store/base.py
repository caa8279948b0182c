"""Where rows live. Two implementations pass one suite: SQLite for nodes, memory for tests.

Every method is one transaction: all of it holds, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypedDict, Unpack

import msgspec

from cloche.model.errors import AlreadyExistsError, WrongStateError
from cloche.model.events import Event, EventPage, EventQuery, SandboxQuery
from cloche.model.lifecycle import State
from cloche.model.sandbox import SandboxRecord, SandboxSpec
from cloche.model.snapshot import SnapshotRecord
from cloche.model.template import Template

#: "wake" resumes a suspended sandbox; "capture" is a fork or a snapshot of one that goes on as it was
Operation = Literal["create", "start", "stop", "remove", "suspend", "wake", "capture"]
#: newest events kept of one sandbox, and of all
EVENTS_PER_SANDBOX = 500
EVENTS_TOTAL = 20_000

#: most rows that an ambiguous prefix yields
MAX_CANDIDATES = 16
#: states in which no operation is under way
RESTING: frozenset[State] = frozenset({"running", "paused", "suspended", "stopped"})


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to be done to a sandbox, written before the first effect and gone with the last. `step` of
    "suspend" is the state that the sandbox was in."""

    id: str
    sandbox_id: str
    operation: Operation
    step: str
    created_at: float


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what; never pruned by the store."""

    id: str
    project_id: str
    sandbox_id: str | None
    at: float
    actor: str
    action: str
    data: dict[str, Any] = {}


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one sandbox since it was made, from the code's side."""

    sent_bytes: int = 0
    received_bytes: int = 0


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a sandbox that the machine can reach. `slug`: its name in URLs; `address_port`: the port of the machine
    that leads to it, and that takes HTTP for whatever host with `any_host`."""

    sandbox_id: str
    port: int
    slug: str
    address_port: int
    any_host: bool = False


class Changes(TypedDict, total=False):
    """Columns that an operation may change besides the state."""

    spec: SandboxSpec

    reason: str | None
    started_at: float | None
    expires_at: float | None
    stopped_at: float | None
    exit_code: int | None
    suspended: dict[str, Any] | None


class Store(Protocol):
    async def insert(self, record: SandboxRecord, intent: Intent) -> None:
        """A new row and what will be done with it. Raises AlreadyExistsError when the name (or id) is taken."""

    async def get(self, sandbox_id: str) -> SandboxRecord | None: ...

    async def find(self, project_id: str, ref: str) -> list[SandboxRecord]:
        """The row of this id or name, else at most 16 whose id begins with `ref` (a valid prefix)."""

    async def select(self, project_id: str | None, query: SandboxQuery) -> list[SandboxRecord]:
        """At most `query.limit` rows, by id. None: of every project."""

    async def transition(
        self,
        sandbox_id: str,
        from_states: frozenset[State],
        to: State,
        *,
        intent: Intent | None = None,
        event: Event | None = None,
        **changes: Unpack[Changes],
    ) -> SandboxRecord:
        """Compare and set. `intent` is written with it; without one, the sandbox's intents are cleared when `to` is a
        state to rest in (RESTING). Raises NotFoundError or WrongStateError, and then changes nothing."""

    async def settle(
        self, sandbox_ids: Sequence[str], from_states: frozenset[State], to: State, *, events: Sequence[Event],
        **changes: Unpack[Changes],
    ) -> list[SandboxRecord]:  # fmt: skip
        """`transition` of several rows, all of them or none."""

    async def claim(self, pool_key: str, record: SandboxRecord, event: Event) -> SandboxRecord:
        """Compare and set: a running row of that pool becomes `record`, which has its id and is in no pool. Raises
        NotFoundError, WrongStateError when it does not run or is no member (any more), AlreadyExistsError when the name
        is taken, and then changes nothing."""

    async def delete(self, sandbox_id: str, event: Event | None = None) -> bool:
        """Remove the row with its intents, traffic and published ports; False when there was none. Events stay."""

    async def intents(self) -> list[Intent]:
        """Oldest first."""

    async def add_event(self, event: Event) -> None:
        """An id that is not above all before it is replaced by one that is: ids are in the order of the writes, also
        after the clock was set back, so whoever has read up to an id has missed nothing."""

    async def events(self, sandbox_id: str, limit: int = EVENTS_PER_SANDBOX) -> list[Event]:
        """The newest `limit`, oldest first."""

    async def history(self, project_id: str, query: EventQuery) -> EventPage:
        """Events of a project, page by page."""

    async def before_newest(self, project_id: str, query: EventQuery, count: int) -> str:
        """The `after` with which `history` begins at the newest `count` that match; never below `query.after`."""

    def on_event(self, listener: Callable[[], None] | None) -> None:
        """Called on the event loop, from which this is called, soon after each write of an event."""

    async def put_template(self, template: Template) -> bool:
        """Write or replace; of a template that is replaced `created_at` stays. True when it is new."""

    async def template(self, project_id: str, name: str) -> Template | None: ...

    async def templates(self, project_id: str | None) -> list[Template]:
        """By name. None: of every project."""

    async def delete_template(self, project_id: str, name: str) -> bool:
        """False when there was none."""

    async def insert_snapshot(self, record: SnapshotRecord) -> None:
        """Raises AlreadyExistsError when the name is taken, also by one that is being made."""

    async def snapshot(self, project_id: str, ref: str) -> SnapshotRecord | None:
        """By id or name, in any state."""

    async def snapshots(self, project_id: str | None) -> list[SnapshotRecord]:
        """By id, in any state. None: of every project."""

    async def put_snapshot(self, record: SnapshotRecord, event: Event | None = None) -> bool:
        """Replace the row of that id. False when there is none, and then nothing is written."""

    async def delete_snapshot(self, snapshot_id: str, event: Event | None = None) -> bool:
        """False when there was none."""

    async def put_traffic(self, traffic: Mapping[str, Traffic]) -> None:
        """By sandbox id; of those that are gone nothing is kept."""

    async def traffic(self, sandbox_id: str) -> Traffic: ...

    async def put_port(self, published: PublishedPort, event: Event | None = None) -> bool:
        """Write or replace. False when there is no such sandbox, and then nothing is written."""

    async def ports(self, sandbox_id: str | None) -> list[PublishedPort]:
        """By sandbox id and port. None: of all."""

    async def delete_port(self, sandbox_id: str, port: int, event: Event | None = None) -> bool:
        """False when there was none."""

    async def add_audit(self, line: AuditLine) -> None: ...

    async def audit(self, limit: int = 1000) -> list[AuditLine]: ...

    async def close(self) -> None: ...


def name_taken(record: SandboxRecord) -> AlreadyExistsError:
    name = record.sandbox.name
    remedy = f"take another name, or: cloche rm -f {name}"
    return AlreadyExistsError(f"a sandbox named {name!r} exists already", remedy=remedy, name=name)


def snapshot_name_taken(record: SnapshotRecord) -> AlreadyExistsError:
    name = record.snapshot.name
    remedy = f"take another name, or: cloche snapshot rm {name}"
    return AlreadyExistsError(f"a snapshot named {name!r} exists already", remedy=remedy, name=name)


def not_waiting(record: SandboxRecord, pool_key: str) -> WrongStateError:
    sandbox = record.sandbox
    return WrongStateError(f"sandbox {sandbox.id} does not wait in pool {pool_key}", state=sandbox.state)


def wrong_state(record: SandboxRecord, from_states: frozenset[State]) -> WrongStateError:
    sandbox = record.sandbox
    wanted = " or ".join(sorted(from_states))
    return WrongStateError(f"sandbox {sandbox.id} is {sandbox.state}, not {wanted}", state=sandbox.state)
