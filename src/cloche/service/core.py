"""What every use case works with: the store, the engines, the clock, and the locks between them."""

from __future__ import annotations

from pathlib import Path

from cloche.model.errors import InvalidError, NotFoundError
from cloche.model.events import Event
from cloche.model.ids import new_event_id, new_intent_id
from cloche.model.sandbox import SandboxRecord
from cloche.service.boxes import Boxes
from cloche.service.captures import CapturePlaces
from cloche.service.clock import Clock
from cloche.service.door import Attachments
from cloche.service.guests import Guests
from cloche.service.locks import Locks
from cloche.service.ports import Door, Engines, NoDoor, Observer
from cloche.service.secret_values import SecretValues
from cloche.store.base import MAX_CANDIDATES, Intent, Operation, Store


class Core:
    def __init__(
        self, home: Path, store: Store, engines: Engines, clock: Clock, observer: Observer | None,
        door: Door | None = None,
    ) -> None:  # fmt: skip
        self.store = store
        self.engines = engines
        self.clock = clock
        self.observer = observer
        self.boxes = Boxes(home, engines)
        self.captures = CapturePlaces(home)
        self.guests = Guests(self.boxes)
        self.locks = Locks()
        self.secrets = SecretValues()
        self.door = Attachments(self, door or NoDoor())

    async def reached(self, point: str) -> None:
        """A boundary between two steps, with its whole name."""
        if self.observer is not None:
            await self.observer(point)

    async def resolve(self, project_id: str, ref: str) -> SandboxRecord:
        """By id, name or unique prefix. Raises NotFoundError, and InvalidError for an ambiguous prefix."""
        wanted = ref.lower() if ref.lower().startswith("sb_") else ref
        found = await self.store.find(project_id, wanted)
        if not found:
            raise NotFoundError(f"there is no sandbox {ref!r}", remedy="cloche ls --all")
        if len(found) > 1:
            count = f"{len(found)} or more" if len(found) >= MAX_CANDIDATES else str(len(found))
            raise InvalidError(f"{ref!r} could be any of {count} sandboxes", field="ref", remedy="write more of the id",
                               candidates=len(found))  # fmt: skip
        return found[0]

    def event(self, record: SandboxRecord, kind: str, **data: object) -> Event:
        sandbox = record.sandbox
        kept = {key: value for key, value in data.items() if value is not None}
        return Event(id=new_event_id(), project_id=sandbox.project_id, sandbox_id=sandbox.id, at=self.clock.now(),
                     kind=f"sandbox.{kind}", data=kept)  # fmt: skip

    def intent(self, sandbox_id: str, operation: Operation, step: str) -> Intent:
        """`step`: the first that the operation will take."""
        return Intent(id=new_intent_id(), sandbox_id=sandbox_id, operation=operation, step=step,
                      created_at=self.clock.now())  # fmt: skip
