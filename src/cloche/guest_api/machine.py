"""Calls of the guest's wire that only a guest with a kernel of its own answers: asleep for a capture, and awake again
as another sandbox. Every other guest answers UnavailableError."""

from __future__ import annotations

import msgspec

from cloche.guest_api.transport import Transport
from cloche.model.errors import InvalidError

WAKE_ENTROPY_BYTES = 64
#: the guest itself gives up after 5 s; the disk is written in that time too
FREEZE_SECONDS = 30.0


class Wake(msgspec.Struct, frozen=True, kw_only=True):
    """Who a machine is from now on. `time`: UTC seconds; `entropy`: 64 random bytes that nobody else gets; `forked`:
    its memory is a copy of another's that goes on; limits of everything but the guest itself, 0 for none."""

    sandbox_id: str
    nonce: str
    hostname: str
    machine_id: str
    time: float
    entropy: bytes
    forked: bool
    memory_mib: int
    pids: int
    cpus: float


class MachineCalls(Transport):
    async def freeze(self) -> None:
        """Stop all user code and write its files out; what is started meanwhile waits. Again is no error. Raises
        WrongStateError when something does not stop: then all of it goes on."""
        await self._call("POST", b"/v1/freeze", timeout_seconds=FREEZE_SECONDS)

    async def thaw(self) -> None:
        """Let it go on."""
        await self._call("POST", b"/v1/thaw")

    async def wake(self, awake: Wake) -> None:
        """Once after every boot and every restore, before any code runs: name, clock, randomness, limits; thaws last.
        Raises InvalidError; after another error what was frozen stays so."""
        if len(awake.entropy) != WAKE_ENTROPY_BYTES:
            raise InvalidError(f"entropy for waking is {WAKE_ENTROPY_BYTES} bytes, not {len(awake.entropy)}")
        await self._call("POST", b"/v1/wake", awake)
