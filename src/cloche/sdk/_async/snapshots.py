"""Snapshots of a node: what `Sandbox.create(snapshot=…)` goes on from."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cloche.sdk import wire
from cloche.sdk._async import bridge
from cloche.sdk._async.transport import AsyncTransport
from cloche.sdk.values import SnapshotInfo, SnapshotInfoList

#: a node reads a snapshot whole before it answers, and a large one takes its time
SECONDS = 3600.0
#: inside the class `list` is its own method
SnapshotInfos = list[SnapshotInfo]


class AsyncSnapshots:
    """`node.snapshots`. `ref` is an id, a name, or a unique beginning of an id. Each raises NotFoundError for one that
    is not there."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> SnapshotInfos:
        """All, oldest first."""
        return wire.decode(await self._transport.ask("GET", "/v1/snapshots"), SnapshotInfoList).snapshots

    async def get(self, ref: str) -> SnapshotInfo:
        """What is known of one."""
        return wire.decode(await self._transport.ask("GET", _path(ref)), SnapshotInfo)

    async def verify(self, ref: str) -> SnapshotInfo:
        """Read it whole. Raises EngineError for what is damaged, UnavailableError when this machine cannot run it."""
        answer = await self._transport.ask("POST", f"{_path(ref)}/verify", json={}, seconds=SECONDS)
        return wire.decode(answer, SnapshotInfo)

    async def remove(self, ref: str) -> None:
        """Sandboxes that were made from it go on. Raises WrongStateError while it is being used."""
        await self._transport.ask("DELETE", _path(ref))

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """The whole snapshot as a tar stream, in pieces. It holds everything that was in the sandbox's memory."""
        reply = await self._transport.open("GET", f"{_path(ref)}/content", seconds=SECONDS)
        try:
            async for piece in reply.chunks():
                yield piece
        finally:
            await reply.aclose()

    async def add(self, content: bridge.Chunks, *, name: str | None = None) -> SnapshotInfo:
        """A snapshot from what `export` gave, here or on another machine; `name`: another name than it had. Take only
        what you trust as you trust the engine. Raises InvalidError for what is damaged or no snapshot,
        AlreadyExistsError (the name), UnavailableError when this machine cannot run it, NoSpaceError."""
        answer = await self._transport.ask(
            "POST", "/v1/snapshots", query={"name": name}, content=bridge.chunks(content), seconds=SECONDS
        )
        return wire.decode(answer, SnapshotInfo)


def _path(ref: str) -> str:
    return f"/v1/snapshots/{wire.segment(ref)}"
