"""The route that tells of warm pools."""

from __future__ import annotations

from cloche.api.endpoint import Call, Endpoint, Nothing
from cloche.api.replies import Json, Reply
from cloche.model.pool import PoolReport


async def pool(call: Call[Nothing, None]) -> Reply:
    return Json(await call.services.pool.report())


ENDPOINTS = (
    Endpoint(
        method="GET", path="/v1/pool", handler=pool, answer=PoolReport, summary="Sandboxes that wait ready, by pool"
    ),
)
