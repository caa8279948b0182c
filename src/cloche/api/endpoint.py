"""What a route is: one value from which both the dispatch and the OpenAPI description are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec

from cloche.api.incoming import MAX_JSON_BYTES, Incoming
from cloche.api.replies import Reply
from cloche.service.services import Services

Q = TypeVar("Q")
B = TypeVar("B")
Method = Literal["GET", "POST", "PUT", "DELETE"]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No query, or an empty JSON object."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that are no JSON, with their media type."""

    media_type: str = "application/octet-stream"


class NodeControl(Protocol):
    """What the API asks of the process that it runs in."""

    async def health(self) -> Mapping[str, Any]: ...

    async def doctor(self) -> Mapping[str, Any]: ...

    def logs(self, *, lines: int, follow: bool) -> AsyncIterator[bytes]:
        """Whole lines of JSON, oldest first."""

    def leave(self, *, stop_sandboxes: bool) -> None:
        """Begin to shut down; returns at once."""

    async def closing(self) -> None:
        """Return when the node has begun to leave."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """One request, decoded. `incoming` streams a raw body."""

    services: Services
    node: NodeControl
    path: Mapping[str, str]
    query: Q
    body: B
    incoming: Incoming
    headers: Mapping[str, str]


Handler = Callable[[Call[Any, Any]], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`body` None: there is none. `answer` None: 204 or an empty 202. `errors`: codes of `model.errors` that this
    route adds to those that every route can give."""

    method: Method
    path: str
    handler: Handler
    summary: str
    query: type[Any] = Nothing
    body: type[Any] | Raw | None = None
    answer: type[Any] | Raw | None = None
    status: int = 200
    also: Raw | None = None
    body_limit_bytes: int = MAX_JSON_BYTES
    errors: tuple[str, ...] = ()

    @property
    def operation_id(self) -> str:
        return self.handler.__name__
