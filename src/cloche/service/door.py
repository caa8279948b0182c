"""Which sandboxes the door serves: each guest and the door are told the same, from the row of the sandbox.

The row is the truth. What cannot be told now is told later: the door gets everything again when it begins anew, a guest
when it goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from cloche.egress.messages import Attach
from cloche.model.egress import EgressCounters
from cloche.model.errors import ClocheError, NotFoundError, TimedOutError, UnavailableError
from cloche.model.sandbox import SandboxRecord, SandboxSpec
from cloche.service import egress_specs
from cloche.service.door_adoption import DoorAdoption
from cloche.service.door_counters import DoorCounters
from cloche.service.door_guests import DoorGuests, too_old
from cloche.service.ports import Door
from cloche.service.secret_values import SecretValues
from cloche.store.base import PublishedPort, Store

if TYPE_CHECKING:
    from cloche.service.core import Core


class Attachments:
    """`open` for every sandbox that begins to run, `close` before it ends, `forget` when it is gone."""

    def __init__(self, core: Core, door: Door) -> None:
        self._core, self._door = core, door
        self._attached: set[str] = set()
        self._counters = DoorCounters(core)
        self._told = DoorGuests(core, door)
        self._adoption = DoorAdoption(core, self)

    @property
    def _store(self) -> Store:
        return self._core.store

    @property
    def _values(self) -> SecretValues:
        return self._core.secrets

    def expect(self, spec: SandboxSpec) -> None:
        """One like this is being made: the door may begin to start."""
        if spec.egress is not None:
            self._door.start()

    async def open(
        self, record: SandboxRecord, *, strict: bool = True, tell: bool = False, seconds: float | None = None
    ) -> None:
        """Let a sandbox that runs reach what its policy says, and be reached where it is published. One that is closed
        costs nothing; `tell`: its guest is told that too. `strict`: raise what keeps a secret from being read, and
        InvalidError for what is too large. `seconds`: for guest and door; TimeoutError when they take longer. Raises
        UnavailableError, EngineError when there is no door; `close` takes back what was done."""
        self._values.claim(record)
        ports = await self._store.ports(record.sandbox.id)
        if record.sandbox.spec.egress is None and not ports:
            if tell:
                async with asyncio.timeout(seconds):
                    await self._told.tell(record, None)
            return
        await self._values.read(record, strict=strict)
        if strict:
            egress_specs.require_small(record.sandbox.id, record.sandbox.spec.egress, self._values.of(record))
        async with asyncio.timeout(seconds):
            authority = await self._door.ready()
            await together(self._told.tell(record, authority), self._attach(record, ports))

    async def adopt(self, record: SandboxRecord) -> None:
        """As `open`, for one that ran when the node started. What is not done soon is done later."""
        await self._adoption.adopt(record)

    async def change(self, record: SandboxRecord) -> None:
        """The row of a living sandbox has another policy or other secrets. Guest and door are both told, whatever the
        other one answers; raises what the first of them raised that failed. A door that is not there now is told when
        it comes."""
        sandbox_id, policy = record.sandbox.id, record.sandbox.spec.egress
        ports = await self._store.ports(sandbox_id)
        if policy is None and not ports:
            work = self.close(sandbox_id)
        elif sandbox_id in self._attached:
            work = self._door.set_policy(sandbox_id, policy, self._values.of(record))
        else:
            work = self._attach_whole(record, ports)
        await each(self._told.tell_when_ready(record), work)

    async def ready(self, record: SandboxRecord) -> None:
        """Raise what keeps a sandbox that lives from being open, before its row says that it is. Raises
        UnavailableError: there is no door, or the guest is older than the door."""
        await self._door.ready()
        if record.sandbox.id in self._attached or record.sandbox.state != "running":
            return
        try:
            await (await self._core.guests.get(record)).egress_attempts()
        except NotFoundError:
            raise too_old() from None
        except ClocheError:
            # whatever it is, the change itself meets it
            pass

    async def publish(self, record: SandboxRecord, wanted: PublishedPort) -> PublishedPort:
        """`wanted.address_port` is a wish; returns what it is."""
        sandbox_id = wanted.sandbox_id
        await self._door.ready()
        try:
            if sandbox_id not in self._attached:
                await self._attach_whole(record, [])
            found = await self._door.publish(sandbox_id, wanted.port, wanted.slug, wanted.address_port, wanted.any_host)
        except BaseException:
            await self._close_unneeded(record)
            raise
        return msgspec.structs.replace(wanted, address_port=found.address_port)

    async def unpublish(self, record: SandboxRecord, port: int) -> None:
        """One that is neither open nor published any more has nothing to do with the door."""
        sandbox_id = record.sandbox.id
        if sandbox_id in self._attached:
            await self._door.unpublish(sandbox_id, port)
            await self._close_unneeded(record)

    async def _close_unneeded(self, record: SandboxRecord) -> None:
        sandbox = record.sandbox
        if sandbox.spec.egress is None and not await self._store.ports(sandbox.id):
            await self.close(sandbox.id)

    async def close(self, sandbox_id: str) -> None:
        """Nothing reaches anything from now on. Raises nothing, and does nothing for what was not open."""
        self._told.forget(sandbox_id)
        if sandbox_id not in self._attached:
            return
        self._attached.discard(sandbox_id)
        await self._counters.close(sandbox_id, await self._door.detach(sandbox_id))

    def forget(self, sandbox_id: str) -> None:
        """The sandbox is gone."""
        self._counters.forget(sandbox_id)
        self._values.forget(sandbox_id)

    def is_open(self, sandbox_id: str) -> bool:
        return sandbox_id in self._attached

    async def resumed(self, record: SandboxRecord) -> None:
        """A guest that was paused hears again."""
        await self._told.resumed(record)

    def counted(self, sandbox_id: str, counters: EgressCounters) -> bool:
        """The door has counted. False for one that is not attached (any more)."""
        if sandbox_id in self._attached:
            self._counters.note(sandbox_id, counters)
        return sandbox_id in self._attached

    async def counters(self, sandbox_id: str) -> EgressCounters:
        return await self._counters.of(sandbox_id)

    async def keep(self, sandbox_ids: set[str]) -> None:
        """Write down what these have sent and received."""
        await self._counters.keep(sandbox_ids)

    async def stop(self) -> None:
        """The node leaves: the sandboxes go on, without a network. The counters are kept."""
        await self._adoption.stop()
        with contextlib.suppress(ClocheError):
            await self.keep(set(self._attached))

    async def _attach_whole(self, record: SandboxRecord, ports: list[PublishedPort]) -> None:
        """As `_attach`, and what the door refuses is not attached: the next change tries again."""
        try:
            await self._attach(record, ports)
        except (UnavailableError, TimedOutError):
            # the next door is told of it
            raise
        except ClocheError:
            await self.close(record.sandbox.id)
            raise

    async def _attach(self, record: SandboxRecord, ports: list[PublishedPort]) -> None:
        sandbox = record.sandbox
        counters = await self._counters.of(sandbox.id)
        channel = await self._core.guests.channel(record)
        path = channel.direct_path
        attach = Attach(
            id=0, sandbox_id=sandbox.id, name=sandbox.name, project_id=sandbox.project_id, counters=counters,
            policy=sandbox.spec.egress,
            secrets=self._values.of(record), socket=None if path is None else str(path),
        )  # fmt: skip
        # before the door is asked: what is half attached is taken back as a whole
        self._attached.add(sandbox.id)
        self._counters.note(sandbox.id, counters)
        await self._door.attach(attach)
        await self._core.reached("open.attached")
        for port in ports:
            await self._publish_again(port)

    async def _publish_again(self, port: PublishedPort) -> None:
        """A port that somebody else has taken meanwhile is another one from now on."""
        found = await self._door.publish(port.sandbox_id, port.port, port.slug, port.address_port, port.any_host)
        if found.address_port != port.address_port:
            await self._store.put_port(msgspec.structs.replace(port, address_port=found.address_port))


async def together(*work: Coroutine[Any, Any, Any]) -> None:
    """All side by side; the first that fails ends the others, and is raised when none of them is at work any more."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def each(*work: Coroutine[Any, Any, Any]) -> None:
    """All side by side and to their ends; then the first failure is raised."""
    for done in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(done, BaseException):
            raise done
