"""What the service asks of its surroundings, so that it imports no engine and starts no process."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol

from cloche.egress.messages import Attach, Counted, GivenSecret, Happened
from cloche.egress.node_side.ingress_port import Reachable
from cloche.engines.base import Engine
from cloche.model.egress import EgressCounters, EgressPolicy
from cloche.model.errors import UnavailableError
from cloche.model.sandbox import Isolation

#: called at every boundary of an operation with its name ("create.row_written"); fault tests die in it
Observer = Callable[[str], Awaitable[None]]


class Engines(Protocol):
    """The registry of engines, as far as the service needs it."""

    def get(self, name: str) -> Engine:
        """Raises InvalidError for a name that is not known."""

    async def choose(self, engine: str, isolation: Isolation | None) -> Engine:
        """ "auto" takes the strongest that works here; raises UnavailableError, never weakens silently."""

    def names(self) -> list[str]: ...


#: "off": nobody has needed it yet; "down": it does not answer, and is being started again
DoorState = Literal["off", "up", "down"]


class DoorListener(Protocol):
    """Told by the door, on the event loop; neither `happened` nor `counted` may wait or raise."""

    def happened(self, message: Happened) -> None: ...

    def counted(self, message: Counted) -> None: ...

    async def stream(self, sandbox_id: str) -> socket.socket:
        """A socket that leads to the guest's HTTP server; its receiver closes it. Raises ClocheError."""


class Door(Protocol):
    """The process that lets sandboxes reach what their policies allow. It is started when it is first needed, and
    again when it dies; then it gets everything again that was attached and published. All raise UnavailableError when
    it cannot be started or does not answer, and the ClocheError that it answers with."""

    @property
    def state(self) -> DoorState: ...

    @property
    def ingress_port(self) -> int:
        """0 until it has been up."""

    def listen(self, listener: DoorListener) -> None:
        """Before anything else."""

    def start(self) -> None:
        """Begin to start it, unless it has begun; nothing is waited for."""

    async def ready(self) -> str:
        """Wait until it works: the certificate of the authority (PEM) that sandboxes are to trust."""

    async def attach(self, attach: Attach) -> None:
        """Its `id` is of no use here. What cannot be done now is done as soon as the door works, until `detach`."""

    async def set_policy(self, sandbox_id: str, policy: EgressPolicy | None, secrets: Sequence[GivenSecret]) -> None:
        """Of one that is attached; like `attach`."""

    async def detach(self, sandbox_id: str) -> EgressCounters | None:
        """Its last counters. Never raises; None for one that is not attached, or when the door does not answer."""

    async def answer(self, ask_id: str, verdict: str) -> None: ...

    async def publish(
        self, sandbox_id: str, port: int, slug: str, address_port: int, any_host: bool = False
    ) -> Reachable:
        """Of one that is attached. `address_port` 0: any that is free; another: that one if it can be had.
        `any_host`: that one takes HTTP for whatever host."""

    async def unpublish(self, sandbox_id: str, port: int) -> None:
        """What is not published is no error."""

    async def close(self) -> None:
        """End it, with every connection through it."""


class NoDoor:
    """For services that nobody gave a door."""

    state: DoorState = "off"
    ingress_port = 0

    def listen(self, listener: DoorListener) -> None:
        return

    def start(self) -> None:
        return

    async def ready(self) -> str:
        raise UnavailableError("this node has no door, so sandboxes have no network", remedy="--net none")

    async def attach(self, attach: Attach) -> None:
        await self.ready()

    async def set_policy(self, sandbox_id: str, policy: EgressPolicy | None, secrets: Sequence[GivenSecret]) -> None:
        await self.ready()

    async def detach(self, sandbox_id: str) -> EgressCounters | None:
        return None

    async def answer(self, ask_id: str, verdict: str) -> None:
        await self.ready()

    async def publish(
        self, sandbox_id: str, port: int, slug: str, address_port: int, any_host: bool = False
    ) -> Reachable:
        await self.ready()
        raise AssertionError

    async def unpublish(self, sandbox_id: str, port: int) -> None:
        return

    async def close(self) -> None:
        return
