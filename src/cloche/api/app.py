"""The ASGI application: the route table served, and one place where exceptions become answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloche._version import __version__
from cloche.api import decode
from cloche.api.endpoint import Call, Endpoint, NodeControl, Raw
from cloche.api.incoming import ClientGone, Incoming
from cloche.api.replies import Json, Reply, failure
from cloche.api.server import TAKE_OVER
from cloche.api.table import ENDPOINTS
from cloche.model.errors import ClocheError, InvalidError, NodeUnreachableError, NotFoundError
from cloche.service.services import Services

API_VERSION = 1
MIN_API_VERSION = 1
log = logging.getLogger("cloche.api")


class Activity(Protocol):
    """Told of each request, so that a node knows when it is idle."""

    def began(self) -> None: ...

    def ended(self) -> None: ...


def create_app(services: Services, node: NodeControl, activity: Activity) -> ASGIApp:
    """The API over these services. The caller recovers before and closes afterwards."""
    grouped: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in ENDPOINTS:
        grouped[endpoint.path].append(endpoint)
    routes = [Route(path, _PathApp(path, found, services, node)) for path, found in grouped.items()]
    inner = Router(routes, redirect_slashes=False, default=_unknown_route)
    return _Outer(inner, node, activity)


async def _unknown_route(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotFoundError(f"no such route: {scope['method']} {scope['path'][:200]}")


class _PathApp:
    """The methods of one path."""

    def __init__(self, path: str, endpoints: Iterable[Endpoint], services: Services, node: NodeControl) -> None:
        self._path = path
        self._endpoints: dict[str, Endpoint] = {endpoint.method: endpoint for endpoint in endpoints}
        self._services = services
        self._node = node

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        incoming: Incoming = scope["cloche.incoming"]
        endpoint = self._endpoints.get(scope["method"])
        reply = await self._answer(endpoint, scope, incoming) if endpoint else self._wrong_method(scope["method"])
        await reply.send(incoming, send, scope["cloche.closing"])

    async def _answer(self, endpoint: Endpoint, scope: Scope, incoming: Incoming) -> Reply:
        query = decode.query(scope["query_string"], endpoint.query)
        call = Call(
            services=self._services,
            node=self._node,
            path=scope["path_params"],
            query=query,
            body=await _body(endpoint, incoming),
            incoming=incoming,
            headers=Headers(scope=scope),
        )
        return await endpoint.handler(call)

    def _wrong_method(self, method: str) -> Reply:
        allowed = ", ".join(sorted(self._endpoints))
        error = InvalidError(f"{self._path} has no {method}, only {allowed}", field="method")
        return Json(error.to_json(), 405, [(b"allow", allowed.encode("ascii"))])


async def _body(endpoint: Endpoint, incoming: Incoming) -> Any:
    if endpoint.body is None or isinstance(endpoint.body, Raw):
        return None
    return decode.body(await incoming.read(endpoint.body_limit_bytes), endpoint.body)


class _Closing:
    def __init__(self, node: NodeControl) -> None:
        self._node = node

    async def wait(self) -> None:
        await self._node.closing()


@dataclass(slots=True)
class _Exchange:
    """One request on its way through: its id, and the head that was sent."""

    id: str
    began: float
    status: int | None = None


class _Outer:
    """Around every request: idleness, an id, the version headers, errors, the access log."""

    def __init__(self, inner: ASGIApp, node: NodeControl, activity: Activity) -> None:
        self._inner, self._closing, self._activity = inner, _Closing(node), activity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = _Exchange(uuid4().hex, time.monotonic())
        self._activity.began()
        try:
            await self._serve(scope, receive, _stamped(send, exchange), exchange)
        finally:
            self._activity.ended()
            _log_access(scope, exchange)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, exchange: _Exchange) -> None:
        incoming = Incoming(receive, scope.get(TAKE_OVER))
        scope["cloche.incoming"], scope["cloche.closing"] = incoming, self._closing
        try:
            await self._inner(scope, receive, send)
        except ClientGone:
            log.debug("client_gone", extra={"fields": {"request": exchange.id, "path": scope["path"]}})
        except asyncio.CancelledError:
            if exchange.status is None:
                await failure(NodeUnreachableError("the node is leaving; ask again")).send(
                    incoming, send, self._closing
                )
            raise
        except Exception as error:
            reply = failure(_known(error, scope, exchange))
            if exchange.status is None:
                await reply.send(incoming, send, self._closing)


def _known(error: Exception, scope: Scope, exchange: _Exchange) -> ClocheError:
    if isinstance(error, ClocheError):
        fields = {"request": exchange.id, "code": error.code, "message": error.message}
        log.log(logging.WARNING if error.http_status >= 500 else logging.DEBUG, "refused", extra={"fields": fields})
        return error
    fields = {"request": exchange.id, "method": scope["method"], "path": scope["path"]}
    log.error("crashed", exc_info=error, extra={"fields": fields})
    return ClocheError("the node failed to do this; its log says why", remedy="cloche logs --node", request=exchange.id)


def _stamped(send: Send, exchange: _Exchange) -> Send:
    headers = [
        (b"cloche-version", __version__.encode()),
        (b"cloche-api-version", str(API_VERSION).encode()),
        (b"cloche-request-id", exchange.id.encode()),
    ]

    async def stamped(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            message["headers"] = [*message["headers"], *headers]
        await send(message)

    return stamped


def _log_access(scope: Scope, exchange: _Exchange) -> None:
    if log.isEnabledFor(logging.DEBUG):
        fields = {
            "request": exchange.id,
            "method": scope["method"],
            "path": scope["path"],
            "status": exchange.status,
            "seconds": round(time.monotonic() - exchange.began, 6),
        }
        log.debug("request", extra={"fields": fields})
