"""Published ports: what listens in a sandbox, reachable from this machine by a URL that stays the same."""

from __future__ import annotations

import msgspec

from cloche.model.egress import Publication, PublicationList
from cloche.model.errors import InvalidError, LimitHitError, NotFoundError
from cloche.model.events import DEFAULT_PROJECT
from cloche.model.lifecycle import require
from cloche.model.sandbox import SandboxRecord
from cloche.service.core import Core
from cloche.service.ports import Door
from cloche.service.steps import to_the_end
from cloche.store.base import PublishedPort

MAX_PORTS = 64
HOST = "127.0.0.1"


class Publishing:
    """`ref` is an id, a name, or a unique prefix of an id. All raise NotFoundError for an unknown `ref` and
    InvalidError for an ambiguous one, or for no port."""

    def __init__(self, core: Core, door: Door) -> None:
        self._core, self._door = core, door

    async def publish(
        self, ref: str, port: int, *, any_host: bool | None = None, project_id: str = DEFAULT_PROJECT
    ) -> Publication:
        """Nothing needs to listen yet; again gives the same. `any_host` None: as it is, at first False. Raises
        WrongStateError unless it runs, LimitHitError, UnavailableError when there is no door."""
        if not 1 <= port <= 65535:
            raise InvalidError("a port is a number from 1 to 65535", field="port")
        sandbox_id = (await self._core.resolve(project_id, ref)).sandbox.id

        async def whole() -> Publication:
            record = await self._record(sandbox_id, ref)
            require("publish", record.sandbox.state, ref)
            return await self._publish(record, port, any_host)

        async with self._core.locks.hold(sandbox_id):
            return await to_the_end(whole())

    async def find(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> PublicationList:
        """By port. Those of a sandbox that does not run are reachable again when it does."""
        record = await self._core.resolve(project_id, ref)
        found = await self._core.store.ports(record.sandbox.id)
        return PublicationList(publications=[self._shown(port) for port in found])

    async def unpublish(self, ref: str, port: int, *, project_id: str = DEFAULT_PROJECT) -> None:
        """Raises NotFoundError also when it is not published."""
        sandbox_id = (await self._core.resolve(project_id, ref)).sandbox.id

        async def whole() -> None:
            record = await self._record(sandbox_id, ref)
            event = self._core.event(record, "unpublished", port=port)
            if not await self._core.store.delete_port(sandbox_id, port, event):
                raise NotFoundError(f"port {port} of {ref} is not published", remedy=f"cloche publish {ref} {port}")
            await self._core.reached("unpublish.row_removed")
            await self._core.door.unpublish(record, port)

        async with self._core.locks.hold(sandbox_id):
            await to_the_end(whole())

    async def _publish(self, record: SandboxRecord, port: int, any_host: bool | None) -> Publication:
        core, sandbox = self._core, record.sandbox
        ports = {known.port: known for known in await core.store.ports(sandbox.id)}
        if port not in ports and len(ports) >= MAX_PORTS:
            raise LimitHitError(f"{MAX_PORTS} ports of it are published already", limit="ports")
        wanted = ports.get(port) or PublishedPort(
            sandbox_id=sandbox.id, port=port, slug=slug_of(sandbox.id, port), address_port=0
        )
        if any_host is not None:
            wanted = msgspec.structs.replace(wanted, any_host=any_host)
        # the row last: it has the port that was found, and without it the door forgets with the sandbox's next life
        found = await core.door.publish(record, wanted)
        await core.reached("publish.door_told")
        shown = self._shown(found)
        if found != ports.get(port):
            event = core.event(record, "published", port=port, url=shown.url, address=shown.address)
            await core.store.put_port(found, event)
        return shown

    async def _record(self, sandbox_id: str, ref: str) -> SandboxRecord:
        record = await self._core.store.get(sandbox_id)
        if record is None:
            raise NotFoundError(f"there is no sandbox {ref!r} any more")
        return record

    def _shown(self, port: PublishedPort) -> Publication:
        return Publication(
            sandbox_id=port.sandbox_id, port=port.port, address=f"{HOST}:{port.address_port}", any_host=port.any_host,
            url=f"http://{port.slug}.localhost:{self._door.ingress_port}",
        )  # fmt: skip


def slug_of(sandbox_id: str, port: int) -> str:
    """A host name's label that names nobody else's port."""
    return f"{port}-{sandbox_id.removeprefix('sb_')}".lower()
