"""A door in memory: what it was told, in order, and what it would let through."""

from __future__ import annotations

import msgspec

from cloche.egress.messages import Attach, Counted, Happened
from cloche.egress.node_side.ingress_port import Reachable
from cloche.model.egress import EgressCounters
from cloche.model.errors import UnavailableError

INGRESS = 40100


class FakeDoor:
    """`broken`: it cannot be started. `log`: (operation, sandbox or ask). `attached`: as a real one would know them."""

    def __init__(self) -> None:
        self.attached: dict[str, Attach] = {}
        self.published: dict[tuple[str, int], Reachable] = {}
        self.any_host: set[tuple[str, int]] = set()
        self.log: list[tuple[str, str]] = []
        self.broken = False
        self.fails_next: Exception | None = None
        self.state = "off"
        self.ingress_port = INGRESS
        self.taken_ports: set[int] = set()
        self._next_port = 40200

    def listen(self, listener) -> None:
        self.listener = listener

    def start(self) -> None:
        self.log.append(("start", ""))

    async def ready(self) -> str:
        if self.broken:
            self.state = "down"
            raise UnavailableError("the fake door is broken")
        self.state = "up"
        return "PEM of the fake door"

    async def attach(self, attach: Attach) -> None:
        self.log.append(("attach", attach.sandbox_id))
        self.attached[attach.sandbox_id] = attach
        await self.ready()
        self._fail()

    async def set_policy(self, sandbox_id, policy, secrets) -> None:
        self.log.append(("set_policy", sandbox_id))
        known = self.attached[sandbox_id]
        self.attached[sandbox_id] = msgspec.structs.replace(known, policy=policy, secrets=list(secrets))
        self._fail()

    async def detach(self, sandbox_id) -> EgressCounters | None:
        self.log.append(("detach", sandbox_id))
        known = self.attached.pop(sandbox_id, None)
        self.published = {key: value for key, value in self.published.items() if key[0] != sandbox_id}
        return None if known is None else known.counters

    async def answer(self, ask_id, verdict) -> None:
        self.log.append(("answer", f"{ask_id}={verdict}"))

    async def publish(self, sandbox_id, port, slug, address_port, any_host=False) -> Reachable:
        self.log.append(("publish", sandbox_id))
        assert sandbox_id in self.attached
        self._fail()
        (self.any_host.add if any_host else self.any_host.discard)((sandbox_id, port))
        if address_port == 0 or address_port in self.taken_ports:
            self._next_port += 1
            address_port = self._next_port
        found = self.published[sandbox_id, port] = Reachable(ingress_port=INGRESS, address_port=address_port)
        return found

    async def unpublish(self, sandbox_id, port) -> None:
        self.log.append(("unpublish", sandbox_id))
        self.published.pop((sandbox_id, port), None)

    async def close(self) -> None:
        self.state = "off"

    def _fail(self) -> None:
        error, self.fails_next = self.fails_next, None
        if error is not None:
            raise error

    # what a real one says by itself

    def count(self, sandbox_id, **counters) -> None:
        made = EgressCounters(**counters)
        if sandbox_id in self.attached:
            self.attached[sandbox_id] = msgspec.structs.replace(self.attached[sandbox_id], counters=made)
        self.listener.counted(Counted(sandbox_id=sandbox_id, counters=made))

    def happen(self, sandbox_id, kind, /, **data) -> None:
        self.listener.happened(Happened(sandbox_id=sandbox_id, kind=kind, data=data))

    def ops(self) -> list[str]:
        return [operation for operation, _ in self.log if operation != "start"]
