"""Routes of snapshots: take one, look at them, carry them to another machine, take them away."""

from __future__ import annotations

import msgspec

from cloche.api.endpoint import Call, Endpoint, Nothing, Raw
from cloche.api.replies import Empty, Json, Relay, Reply
from cloche.model.snapshot import Snapshot, SnapshotList, SnapshotSpec

TAR = Raw("application/x-tar")


class AddSnapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`name`: another name than it had where it was taken."""

    name: str | None = None


async def create_snapshot(call: Call[Nothing, SnapshotSpec]) -> Reply:
    return Json(await call.services.snapshots.create(call.path["ref"], call.body), status=201)


async def find_snapshots(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.snapshots.all())


async def add_snapshot(call: Call[AddSnapshot, None]) -> Reply:
    return Json(await call.services.snapshot_copies.add(call.incoming.chunks(), name=call.query.name), status=201)


async def get_snapshot(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.snapshots.get(call.path["snapshot"]))


async def remove_snapshot(call: Call[Nothing, None]) -> Reply:
    await call.services.snapshots.remove(call.path["snapshot"])
    return Empty()


async def verify_snapshot(call: Call[Nothing, Nothing]) -> Reply:
    return Json(await call.services.snapshots.verify(call.path["snapshot"]))


async def read_snapshot(call: Call[Nothing, None]) -> Reply:
    return Relay(call.services.snapshot_copies.content(call.path["snapshot"]))


_ONE = "/v1/snapshots/{snapshot}"
_READS = ("not_found", "engine_failed", "unavailable_here")

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/sandboxes/{ref}/snapshots",
        handler=create_snapshot,
        summary="Capture a sandbox, which goes on",
        body=SnapshotSpec,
        answer=Snapshot,
        status=201,
        errors=(*_READS, "wrong_state", "already_exists", "no_space", "sandbox_dead", "limit_hit"),
    ),
    Endpoint(
        method="GET",
        path="/v1/snapshots",
        handler=find_snapshots,
        summary="Snapshots, oldest first",
        answer=SnapshotList,
    ),
    Endpoint(
        method="POST",
        path="/v1/snapshots",
        handler=add_snapshot,
        summary="Take in what `content` of another node has given",
        query=AddSnapshot,
        body=TAR,
        answer=Snapshot,
        status=201,
        errors=("already_exists", "unavailable_here", "engine_failed", "no_space", "limit_hit"),
    ),
    Endpoint(
        method="GET", path=_ONE, handler=get_snapshot, summary="One snapshot", answer=Snapshot, errors=("not_found",)
    ),
    Endpoint(
        method="DELETE",
        path=_ONE,
        handler=remove_snapshot,
        summary="Remove a snapshot; sandboxes made from it go on",
        status=204,
        errors=("not_found", "wrong_state", "engine_failed"),
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/verify",
        handler=verify_snapshot,
        summary="Read it whole, and see that this machine can run it",
        body=Nothing,
        answer=Snapshot,
        errors=_READS,
    ),
    Endpoint(
        method="GET",
        path=f"{_ONE}/content",
        handler=read_snapshot,
        summary="The whole snapshot as a tar stream, its manifest first",
        answer=TAR,
        errors=("not_found",),
    ),
)
