"""Which sandboxes the door serves: each guest and the door are told the same, from the row of the sandbox.

The row is the truth. What cannot be told now is told later: the door gets everything again when it begins anew, a guest
when it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from cloche.egress.messages import Attach
from cloche.guest_api.egress import EgressSetup
from cloche.model.egress import EgressCounters
from cloche.model.errors import ClocheError, NotFoundError, UnavailableError
from cloche.model.sandbox import SandboxRecord, SandboxSpec
from cloche.service import egress_specs
from cloche.service.guests import Guests
from cloche.service.ports import Door
from cloche.service.secret_values import SecretValues, key_of
from cloche.store.base import PublishedPort, Store, Traffic

if TYPE_CHECKING:
    from cloche.service.core import Core

#: how long a node that starts waits for the door; what takes longer is done while it serves
ADOPT_SECONDS = 8.0
RETRY_SECONDS = 2.0
NOTHING = EgressCounters()
log = logging.getLogger("cloche.service")


class Attachments:
    """`open` for every sandbox that begins to run, `close` before it ends, `forget` when it is gone."""

    def __init__(self, core: Core, door: Door) -> None:
        self._core, self._door = core, door
        self._attached: set[str] = set()
        self._counters: dict[str, EgressCounters] = {}
        #: paused guests hear nothing: these are told when they go on
        self._untold: set[str] = set()
        self._adopt_until = 0.0
        self._later: set[asyncio.Task[None]] = set()

    @property
    def _store(self) -> Store:
        return self._core.store

    @property
    def _guests(self) -> Guests:
        return self._core.guests

    @property
    def _values(self) -> SecretValues:
        return self._core.secrets

    def expect(self, spec: SandboxSpec) -> None:
        """One like this is being made: the door may begin to start."""
        if spec.egress is not None:
            self._door.start()

    async def open(self, record: SandboxRecord, *, strict: bool = True, tell: bool = False) -> None:
        """Let a sandbox that runs reach what its policy says, and be reached where it is published. One that is closed
        costs nothing; `tell`: its guest is told that too. `strict`: raise what keeps a secret from being read, and
        InvalidError for what is too large. Raises UnavailableError, EngineError when there is no door; `close` takes
        back what was done."""
        self._values.claim(record)
        ports = await self._store.ports(record.sandbox.id)
        if record.sandbox.spec.egress is None and not ports:
            if tell:
                await self._tell(record, None)
            return
        await self._values.read(record, strict=strict)
        if strict:
            egress_specs.require_small(record.sandbox.id, record.sandbox.spec.egress, self._values.of(record))
        authority = await self._door.ready()
        await together(self._tell(record, authority), self._attach(record, ports))

    async def adopt(self, record: SandboxRecord) -> None:
        """As `open`, for one that ran when the node started. What is not done soon is done later."""
        loop = asyncio.get_running_loop()
        self._adopt_until = self._adopt_until or loop.time() + ADOPT_SECONDS
        try:
            async with asyncio.timeout_at(self._adopt_until):
                # a node that was killed may have closed it in its row alone
                await self.open(record, strict=False, tell=True)
        except (ClocheError, TimeoutError) as error:
            log.warning("sandbox %s has no network yet: %s", record.sandbox.id, error)
            if not isinstance(error, (UnavailableError, TimeoutError)):
                # the door is there and does not take it, so it is not open
                await self.close(record.sandbox.id)
            self._spawn(self._adopt_later(record.sandbox.id))

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
            work = self._attach(record, ports)
        await each(self._tell_when_ready(record), work)

    async def ready(self, record: SandboxRecord) -> None:
        """Raise what keeps a sandbox that lives from being open, before its row says that it is. Raises
        UnavailableError: there is no door, or the guest is older than the door."""
        await self._door.ready()
        if record.sandbox.id in self._attached or record.sandbox.state != "running":
            return
        try:
            await (await self._guests.get(record)).egress_attempts()
        except NotFoundError:
            raise _too_old() from None
        except ClocheError:
            # whatever it is, the change itself meets it
            pass

    async def resumed(self, record: SandboxRecord) -> None:
        """A guest that was paused hears again."""
        if record.sandbox.id in self._untold:
            await self._tell_when_ready(record)

    async def publish(self, record: SandboxRecord, wanted: PublishedPort) -> PublishedPort:
        """`wanted.address_port` is a wish; returns what it is."""
        sandbox_id = wanted.sandbox_id
        await self._door.ready()
        if sandbox_id not in self._attached:
            await self._attach(record, [])
        try:
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
        self._untold.discard(sandbox_id)
        if sandbox_id not in self._attached:
            return
        self._attached.discard(sandbox_id)
        last = await self._door.detach(sandbox_id)
        known = last or self._counters.get(sandbox_id, NOTHING)
        self._counters[sandbox_id] = known = _closed(known)
        with contextlib.suppress(ClocheError):
            await self._store.put_traffic({sandbox_id: _traffic(known)})

    def forget(self, sandbox_id: str) -> None:
        """The sandbox is gone."""
        self._counters.pop(sandbox_id, None)
        self._values.forget(sandbox_id)

    def is_open(self, sandbox_id: str) -> bool:
        return sandbox_id in self._attached

    def counted(self, sandbox_id: str, counters: EgressCounters) -> bool:
        """The door has counted. False for one that is not attached (any more)."""
        if sandbox_id in self._attached:
            self._counters[sandbox_id] = counters
        return sandbox_id in self._attached

    async def counters(self, sandbox_id: str) -> EgressCounters:
        known = self._counters.get(sandbox_id)
        if known is None:
            kept = await self._store.traffic(sandbox_id)
            return EgressCounters(sent_bytes=kept.sent_bytes, received_bytes=kept.received_bytes)
        return known

    async def keep(self, sandbox_ids: set[str]) -> None:
        """Write down what these have sent and received."""
        known = {key: _traffic(self._counters[key]) for key in sandbox_ids if key in self._counters}
        if known:
            await self._store.put_traffic(known)

    async def stop(self) -> None:
        """The node leaves: the sandboxes go on, without a network. The counters are kept."""
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)
        with contextlib.suppress(ClocheError):
            await self.keep(set(self._attached))

    async def _attach(self, record: SandboxRecord, ports: list[PublishedPort]) -> None:
        sandbox = record.sandbox
        counters = await self.counters(sandbox.id)
        channel = await self._guests.channel(record)
        path = channel.direct_path
        attach = Attach(
            id=0, sandbox_id=sandbox.id, name=sandbox.name, project_id=sandbox.project_id, counters=counters,
            policy=sandbox.spec.egress,
            secrets=self._values.of(record), socket=None if path is None else str(path),
        )  # fmt: skip
        # before the door is asked: what is half attached is taken back as a whole
        self._attached.add(sandbox.id)
        self._counters[sandbox.id] = counters
        await self._door.attach(attach)
        await self._core.reached("open.attached")
        for port in ports:
            await self._publish_again(port)

    async def _publish_again(self, port: PublishedPort) -> None:
        """A port that somebody else has taken meanwhile is another one from now on."""
        found = await self._door.publish(port.sandbox_id, port.port, port.slug, port.address_port, port.any_host)
        if found.address_port != port.address_port:
            await self._store.put_port(msgspec.structs.replace(port, address_port=found.address_port))

    async def _tell_when_ready(self, record: SandboxRecord) -> None:
        policy = record.sandbox.spec.egress
        await self._tell(record, None if policy is None else await self._door.ready())

    async def _tell(self, record: SandboxRecord, authority: str | None) -> None:
        """`authority` None: it is closed."""
        sandbox = record.sandbox
        if sandbox.state == "paused":
            self._untold.add(sandbox.id)
            return
        self._untold.discard(sandbox.id)
        if sandbox.spec.egress is None:
            setup = EgressSetup(mode="closed")
        else:
            placeholders = {secret.name: key_of(secret) for secret in sandbox.spec.secrets}
            # to trust another authority costs a sandbox several milliseconds, and is nothing to do without need
            trusted = authority if egress_specs.inspects(sandbox.spec) else None
            setup = EgressSetup(mode="open", proxy_env=True, authority_pem=trusted, placeholders=placeholders)
        try:
            await (await self._guests.get(record)).configure_egress(setup)
        except NotFoundError:
            # one that is older than the door is closed, whatever it is told
            if authority is not None:
                raise _too_old() from None
        await self._core.reached("open.guest_told")

    async def _adopt_later(self, sandbox_id: str) -> None:
        while (record := await self._store.get(sandbox_id)) is not None and record.sandbox.state in _LIVES:
            await asyncio.sleep(RETRY_SECONDS)
            async with self._core.locks.hold(sandbox_id):
                if await self._adopted(sandbox_id):
                    return

    async def _adopted(self, sandbox_id: str) -> bool:
        """True when there is nothing to do any more."""
        record = await self._store.get(sandbox_id)
        if record is None or record.sandbox.state not in _LIVES:
            return True
        try:
            await self.open(record, strict=False, tell=True)
        except ClocheError as error:
            if not isinstance(error, UnavailableError):
                await self.close(sandbox_id)
            return False
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)


_LIVES = frozenset({"running", "paused"})


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


def _too_old() -> UnavailableError:
    return UnavailableError("this sandbox was made before there was a door, and stays closed until it starts again",
                            remedy="cloche stop and cloche start, or make it anew")  # fmt: skip


def _closed(counters: EgressCounters) -> EgressCounters:
    return EgressCounters(**{**{name: getattr(counters, name) for name in counters.__struct_fields__},
                             "connections_open": 0})  # fmt: skip


def _traffic(counters: EgressCounters) -> Traffic:
    return Traffic(sent_bytes=counters.sent_bytes, received_bytes=counters.received_bytes)
