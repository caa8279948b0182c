"""What guests are told of the door: whether they are open, whom their programs are to trust, and placeholders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloche.guest_api.egress import EgressSetup
from cloche.model.errors import NotFoundError, UnavailableError
from cloche.model.sandbox import SandboxRecord
from cloche.service import egress_specs
from cloche.service.ports import Door
from cloche.service.secret_values import key_of

if TYPE_CHECKING:
    from cloche.service.core import Core


class DoorGuests:
    def __init__(self, core: Core, door: Door) -> None:
        self._core, self._door = core, door
        #: paused guests hear nothing: these are told when they go on
        self._untold: set[str] = set()

    async def tell_when_ready(self, record: SandboxRecord) -> None:
        policy = record.sandbox.spec.egress
        await self.tell(record, None if policy is None else await self._door.ready())

    async def tell(self, record: SandboxRecord, authority: str | None) -> None:
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
            await (await self._core.guests.get(record)).configure_egress(setup)
        except NotFoundError:
            # one that is older than the door is closed, whatever it is told
            if authority is not None:
                raise too_old() from None
        await self._core.reached("open.guest_told")

    async def resumed(self, record: SandboxRecord) -> None:
        """A guest that was paused hears again."""
        if record.sandbox.id in self._untold:
            await self.tell_when_ready(record)

    def forget(self, sandbox_id: str) -> None:
        """It is not open any more."""
        self._untold.discard(sandbox_id)


def too_old() -> UnavailableError:
    return UnavailableError("this sandbox was made before there was a door, and stays closed until it starts again",
                            remedy="cloche stop and cloche start, or make it anew")  # fmt: skip
