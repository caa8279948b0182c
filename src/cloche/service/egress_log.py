"""What the door wrote down: the log of what was decided, and the policy that it would have taken."""

from __future__ import annotations

import asyncio

import msgspec

from cloche.egress.auditing.audit import read_audit
from cloche.egress.deciding import presets, suggest
from cloche.egress.deciding.presets import Preset
from cloche.egress.deciding.suggest import Suggestion, Tried
from cloche.model.egress import AuditPage, AuditQuery
from cloche.model.errors import ClocheError, InvalidError, NotFoundError
from cloche.model.events import DEFAULT_PROJECT
from cloche.model.ids import is_sandbox_id
from cloche.model.sandbox import SandboxRecord
from cloche.service.core import Core

VERDICTS = ("allowed", "denied", "failed", "limit", "revoked")
#: of the log, for a suggestion
SUGGESTED_LINES = 10_000


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`sandbox`: a reference, also the whole id of a removed one. The rest is as in AuditQuery."""

    sandbox: str | None = None
    since: float | None = None
    verdicts: tuple[str, ...] = ()
    host: str | None = None
    limit: int = 1000


class EgressLog:
    def __init__(self, core: Core, directory: str) -> None:
        """`directory`: where the door writes."""
        self._core, self._directory = core, directory

    async def find(self, asked: LogQuery, *, project_id: str = DEFAULT_PROJECT) -> AuditPage:
        """The newest `limit` lines of this project, oldest first. Raises NotFoundError for an unknown sandbox,
        InvalidError."""
        unknown = sorted(set(asked.verdicts) - set(VERDICTS))
        if unknown:
            said = f"no such verdict: {unknown[0][:64]!r} (there are {', '.join(VERDICTS)})"
            raise InvalidError(said, field="verdict")
        sandbox_id = None if asked.sandbox is None else await self._sandbox_id(project_id, asked.sandbox)
        query = AuditQuery(project_id=project_id, sandbox_id=sandbox_id, since=asked.since,
                           verdicts=list(asked.verdicts), host=asked.host, limit=asked.limit)  # fmt: skip
        return await asyncio.to_thread(read_audit, self._directory, query)

    async def suggestion(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> Suggestion:
        """From what the door has refused, and what the guest remembers of the time when it was closed."""
        record = await self._core.resolve(project_id, ref)
        query = AuditQuery(sandbox_id=record.sandbox.id, limit=SUGGESTED_LINES)
        page = await asyncio.to_thread(read_audit, self._directory, query)
        return await asyncio.to_thread(suggest.suggest, page.lines, await self._attempts(record))

    def presets(self) -> list[Preset]:
        """By name."""
        return [presets.load(name) for name in presets.names()]

    async def _attempts(self, record: SandboxRecord) -> list[Tried]:
        if record.sandbox.state != "running":
            return []
        try:
            attempts = await (await self._core.guests.get(record)).egress_attempts()
        except ClocheError:
            # one that does not answer has told nothing
            return []
        return [Tried(host=each.host, port=each.port, protocol=each.protocol, count=each.count) for each in attempts]

    async def _sandbox_id(self, project_id: str, ref: str) -> str:
        try:
            return (await self._core.resolve(project_id, ref)).sandbox.id
        except NotFoundError:
            events = await self._core.store.events(ref.lower(), 1) if is_sandbox_id(ref.lower()) else []
            if not any(event.project_id == project_id for event in events):
                raise
            return ref.lower()
