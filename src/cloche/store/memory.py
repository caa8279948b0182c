"""The store in memory, for tests: the same answers as SQLite's, and nothing kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import msgspec

from cloche.model.errors import NotFoundError
from cloche.model.events import Event, SandboxQuery
from cloche.model.ids import is_id_prefix
from cloche.model.lifecycle import State
from cloche.model.sandbox import Sandbox, SandboxRecord
from cloche.model.snapshot import SnapshotRecord
from cloche.model.template import Template
from cloche.store.base import (
    EVENTS_PER_SANDBOX,
    EVENTS_TOTAL,
    MAX_CANDIDATES,
    RESTING,
    AuditLine,
    Changes,
    Intent,
    name_taken,
    not_waiting,
    snapshot_name_taken,
    wrong_state,
)
from cloche.store.memory_egress import MemoryEgress


class MemoryStore(MemoryEgress):
    """No method gives way to another task, so each is one transaction."""

    def __init__(self, *, events_per_sandbox: int = EVENTS_PER_SANDBOX, events_total: int = EVENTS_TOTAL) -> None:
        super().__init__(events_per_sandbox, events_total)
        self._intents: list[Intent] = []
        self._audit: list[AuditLine] = []
        self._templates: dict[tuple[str, str], Template] = {}
        self._snapshots: dict[str, SnapshotRecord] = {}

    async def insert(self, record: SandboxRecord, intent: Intent) -> None:
        if record.sandbox.id in self._records or self._named(record.sandbox):
            raise name_taken(record)
        self._records[record.sandbox.id] = record
        self._intents.append(intent)

    def _named(self, wanted: Sandbox) -> bool:
        others = (record.sandbox for record in self._records.values())
        same = ((other.project_id, other.name) == (wanted.project_id, wanted.name) for other in others)
        return wanted.name is not None and any(same)

    async def get(self, sandbox_id: str) -> SandboxRecord | None:
        return self._records.get(sandbox_id)

    async def find(self, project_id: str, ref: str) -> list[SandboxRecord]:
        mine = [record for record in self._ordered() if record.sandbox.project_id == project_id]
        exact = [record for record in mine if ref in (record.sandbox.id, record.sandbox.name)]
        if exact or not is_id_prefix(ref):
            return exact
        return [record for record in mine if record.sandbox.id.startswith(ref)][:MAX_CANDIDATES]

    async def select(self, project_id: str | None, query: SandboxQuery) -> list[SandboxRecord]:
        mine = [record for record in self._ordered() if project_id in (None, record.sandbox.project_id)]
        return [record for record in mine if _matches(record.sandbox, query)][: query.limit]

    def _ordered(self) -> list[SandboxRecord]:
        return sorted(self._records.values(), key=lambda record: record.sandbox.id)

    async def transition(
        self, sandbox_id: str, from_states: frozenset[State], to: State, *,
        intent: Intent | None = None, event: Event | None = None, **changes: Unpack[Changes],
    ) -> SandboxRecord:  # fmt: skip
        after = self._moved(sandbox_id, from_states, to, changes)
        self._records[sandbox_id] = after
        if intent is not None:
            self._intents.append(intent)
        elif to in RESTING:
            self._forget_intents(sandbox_id)
        self._tell(event)
        return after

    async def settle(
        self, sandbox_ids: Sequence[str], from_states: frozenset[State], to: State, *,
        events: Sequence[Event], **changes: Unpack[Changes],
    ) -> list[SandboxRecord]:  # fmt: skip
        moved = [self._moved(sandbox_id, from_states, to, changes) for sandbox_id in sandbox_ids]
        for after in moved:
            self._records[after.sandbox.id] = after
            if to in RESTING:
                self._forget_intents(after.sandbox.id)
        for event in events:
            self._tell(event)
        return moved

    def _moved(self, sandbox_id: str, from_states: frozenset[State], to: State, changes: Changes) -> SandboxRecord:
        before = self._records.get(sandbox_id)
        if before is None:
            raise NotFoundError(f"there is no sandbox {sandbox_id}")
        if before.sandbox.state not in from_states:
            raise wrong_state(before, from_states)
        columns: dict[str, Any] = {name: value for name, value in changes.items() if name != "suspended"}
        sandbox = msgspec.structs.replace(before.sandbox, state=to, **columns)
        return msgspec.structs.replace(before, sandbox=sandbox, suspended=changes.get("suspended", before.suspended))

    async def claim(self, pool_key: str, record: SandboxRecord, event: Event) -> SandboxRecord:
        sandbox_id = record.sandbox.id
        before = self._records.get(sandbox_id)
        if before is None:
            raise NotFoundError(f"there is no sandbox {sandbox_id}")
        if before.pool_key != pool_key or before.sandbox.state != "running":
            raise not_waiting(before, pool_key)
        if self._named(record.sandbox):
            raise name_taken(record)
        self._records[sandbox_id] = record
        self._tell(event)
        return record

    async def delete(self, sandbox_id: str, event: Event | None = None) -> bool:
        gone = self._records.pop(sandbox_id, None) is not None
        self._forget_intents(sandbox_id)
        self._forget_egress(sandbox_id)
        self._tell(event if gone else None)
        return gone

    def _forget_intents(self, sandbox_id: str) -> None:
        self._intents = [intent for intent in self._intents if intent.sandbox_id != sandbox_id]

    async def intents(self) -> list[Intent]:
        return sorted(self._intents, key=lambda intent: intent.id)

    async def put_template(self, template: Template) -> bool:
        key = (template.project_id, template.name)
        before = self._templates.get(key)
        created_at = template.created_at if before is None else before.created_at
        self._templates[key] = msgspec.structs.replace(template, created_at=created_at)
        return before is None

    async def template(self, project_id: str, name: str) -> Template | None:
        return self._templates.get((project_id, name))

    async def templates(self, project_id: str | None) -> list[Template]:
        found = sorted(self._templates.items())
        return [template for (project, _), template in found if project_id in (None, project)]

    async def delete_template(self, project_id: str, name: str) -> bool:
        return self._templates.pop((project_id, name), None) is not None

    async def insert_snapshot(self, record: SnapshotRecord) -> None:
        wanted = record.snapshot
        others = [
            known.snapshot for known in self._snapshots.values() if known.snapshot.project_id == wanted.project_id
        ]
        if wanted.name is not None and wanted.name in [other.name for other in others]:
            raise snapshot_name_taken(record)
        self._snapshots[wanted.id] = record

    async def snapshot(self, project_id: str, ref: str) -> SnapshotRecord | None:
        found = await self.snapshots(project_id)
        return next((known for known in found if ref in (known.snapshot.id, known.snapshot.name)), None)

    async def snapshots(self, project_id: str | None) -> list[SnapshotRecord]:
        found = [record for _, record in sorted(self._snapshots.items())]
        return [record for record in found if project_id in (None, record.snapshot.project_id)]

    async def put_snapshot(self, record: SnapshotRecord, event: Event | None = None) -> bool:
        known = record.snapshot.id in self._snapshots
        if known:
            self._snapshots[record.snapshot.id] = record
            self._tell(event)
        return known

    async def delete_snapshot(self, snapshot_id: str, event: Event | None = None) -> bool:
        gone = self._snapshots.pop(snapshot_id, None) is not None
        self._tell(event if gone else None)
        return gone

    async def add_audit(self, line: AuditLine) -> None:
        self._audit.append(line)

    async def audit(self, limit: int = 1000) -> list[AuditLine]:
        return self._audit[-limit:]

    async def close(self) -> None:
        return


def _matches(sandbox: Sandbox, query: SandboxQuery) -> bool:
    return (
        sandbox.id > (query.cursor or "")
        and query.name in (None, sandbox.name)
        and (not query.states or sandbox.state in query.states)
        and all(_labelled(sandbox, key, value) for key, value in query.labels.items())
    )


def _labelled(sandbox: Sandbox, key: str, value: str | None) -> bool:
    return key in sandbox.labels and value in (None, sandbox.labels[key])
