"""Routes of published ports: what listens in a sandbox, reachable from this machine."""

from __future__ import annotations

import msgspec

from cloche.api.endpoint import Call, Endpoint, Nothing
from cloche.api.replies import Empty, Json, Reply
from cloche.model.egress import Publication, PublicationList
from cloche.model.errors import InvalidError


class PublishPort(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`any_host`: its address answers HTTP/1 for whatever host; null: as it is, at first false."""

    any_host: bool | None = None


async def publish_port(call: Call[Nothing, PublishPort]) -> Reply:
    port, any_host = _port(call.path["port"]), call.body.any_host
    return Json(await call.services.publishing.publish(call.path["ref"], port, any_host=any_host))


async def find_ports(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.publishing.find(call.path["ref"]))


async def unpublish_port(call: Call[Nothing, None]) -> Reply:
    await call.services.publishing.unpublish(call.path["ref"], _port(call.path["port"]))
    return Empty()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise InvalidError(f"a port is a number from 1 to 65535, not {text[:32]!r}", field="port")
    return int(text)


_ALL = "/v1/sandboxes/{ref}/ports"
_ONE = f"{_ALL}/{{port}}"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=_ALL,
        handler=find_ports,
        answer=PublicationList,
        errors=("not_found",),
        summary="Ports of it that this machine can reach",
    ),
    Endpoint(
        method="PUT",
        path=_ONE,
        handler=publish_port,
        body=PublishPort,
        answer=Publication,
        errors=("not_found", "wrong_state", "limit_hit", "unavailable_here", "engine_failed", "sandbox_dead",
                "timed_out", "no_space"),
        summary="Let this machine reach a port of it; again gives the same",
    ),
    Endpoint(
        method="DELETE",
        path=_ONE,
        handler=unpublish_port,
        status=204,
        errors=("not_found", "engine_failed", "timed_out", "unavailable_here", "no_space"),
        summary="End that, and the connections to it",
    ),
)  # fmt: skip
