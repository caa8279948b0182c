"""What a handler answers with, and how it gets to the client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from starlette.types import Send

from cloche.api.incoming import ClientGone, Incoming
from cloche.guest_api import text
from cloche.guest_api.transport import error_of
from cloche.model.errors import ClocheError, GuestError
from cloche.service.guests import GuestReply

T = TypeVar("T")
Headers = list[tuple[bytes, bytes]]
#: sees every chunk before the client does, and b"" at the end; raises GuestError for what may not pass
Inspector = Callable[[bytes], None]

JSON = "application/json"
NDJSON = "application/x-ndjson"
#: of a guest's headers only these reach the client
_PASSED = ("content-type", "content-length", "cloche-file-size")
_MAX_HEADER_VALUE = 200


class Closing(Protocol):
    """Tells streams that the node is leaving."""

    async def wait(self) -> Any: ...


class Reply(Protocol):
    async def send(self, incoming: Incoming, send: Send, closing: Closing) -> None:
        """Answer. What is raised before the head was sent becomes an error body; afterwards the connection is cut."""


class Json:
    def __init__(self, value: object, status: int = 200, headers: Headers | None = None) -> None:
        self._value, self._status, self._headers = value, status, headers or []

    async def send(self, incoming: Incoming, send: Send, closing: Closing) -> None:
        body = text.encode(self._value)
        await _send_whole(send, self._status, body, [_header("content-type", JSON), *self._headers])


class Empty:
    def __init__(self, status: int = 204) -> None:
        self._status = status

    async def send(self, incoming: Incoming, send: Send, closing: Closing) -> None:
        await _send_whole(send, self._status, b"", [])


def failure(error: ClocheError) -> Json:
    return Json(error.to_json(), error.http_status)


class Lines:
    """Newline-delimited JSON that is already encoded."""

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        self._lines = lines

    async def send(self, incoming: Incoming, send: Send, closing: Closing) -> None:
        incoming.expect_nothing()
        await _until_left(self._pump(send), incoming, closing)

    async def _pump(self, send: Send) -> None:
        await _send_head(send, 200, [_header("content-type", NDJSON)])
        async for line in self._lines:
            await _send_part(send, line)
        await _send_end(send)


class Checked:
    """A short answer of the guest, taken whole, checked, and said again in the host's own words."""

    def __init__(
        self,
        exchange: AbstractAsyncContextManager[GuestReply],
        kind: type[T],
        check: Callable[[T], T],
        *,
        has_body: bool = False,
    ) -> None:
        self._exchange, self._kind, self._check, self._has_body = exchange, kind, check, has_body

    async def send(self, incoming: Incoming, send: Send, closing: Closing) -> None:
        if not self._has_body:
            incoming.expect_nothing()
        await _until_left(self._pump(send), incoming, None)

    async def _pump(self, send: Send) -> None:
        async with self._exchange as reply:
            _check_status(reply.status)
            content = await reply.read()
            if reply.status >= 300:
                raise error_of(reply.status, content)
            value = self._check(text.decode(content, self._kind))
        await _send_whole(send, 200, text.encode(value), [_header("content-type", JSON)])


class Relay:
    """The guest's answer, passed on chunk by chunk: no more of it is held than one chunk. A client that goes away ends
    the exchange with the guest and nothing else. `in_lines`: what `inspect` refuses is told in a last line; else the
    connection is cut, which a reader cannot tell from a node that went away."""

    def __init__(
        self,
        exchange: AbstractAsyncContextManager[GuestReply],
        inspect: Inspector | None = None,
        *,
        has_body: bool = False,
        ends_with_node: bool = False,
        in_lines: bool = False,
    ) -> None:
        self._exchange, self._inspect, self._has_body, self._ends = exchange, inspect, has_body, ends_with_node
        self._in_lines = in_lines

    async def send(self, incoming: Incoming, send: Send, closing: Closing) -> None:
        if not self._has_body:
            incoming.expect_nothing()
        await _until_left(self._pump(send), incoming, closing if self._ends else None)

    async def _pump(self, send: Send) -> None:
        async with self._exchange as reply:
            _check_status(reply.status)
            await _send_head(send, reply.status, _passed(reply))
            inspect = self._inspect if reply.status == 200 else None
            try:
                await _pass_on(reply, inspect, send)
            except GuestError as error:
                if inspect and self._in_lines:
                    await _send_part(send, text.encode(error.to_json()) + b"\n")
                    await _send_end(send)
                raise


async def _pass_on(reply: GuestReply, inspect: Inspector | None, send: Send) -> None:
    async for chunk in reply.stream():
        if inspect:
            inspect(chunk)
        await _send_part(send, chunk)
    if inspect:
        inspect(b"")
    await _send_end(send)


async def _until_left(work: Coroutine[Any, Any, None], incoming: Incoming, closing: Closing | None) -> None:
    """Do `work` unless the client leaves first (or, with `closing`, the node does). Raises ClientGone for both."""
    working = asyncio.ensure_future(work)
    watchers = [asyncio.ensure_future(waiting) for waiting in _ends_of(incoming, closing)]
    try:
        await asyncio.wait([working, *watchers], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        await working
    finally:
        await _cancel_all([working, *watchers])


def _ends_of(incoming: Incoming, closing: Closing | None) -> Iterable[Coroutine[Any, Any, Any]]:
    yield incoming.gone()
    if closing is not None:
        yield closing.wait()


async def _cancel_all(tasks: list[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


def _check_status(status: int) -> None:
    if not 200 <= status <= 599:
        raise GuestError(f"the guest answered with status {status}")


def _passed(reply: GuestReply) -> Headers:
    found = ((name, reply.headers.get(name)) for name in _PASSED)
    return [_header(name, value) for name, value in found if value and _is_plain(value)]


def _is_plain(value: str) -> bool:
    return len(value) <= _MAX_HEADER_VALUE and value.isascii() and value.isprintable()


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    return name.encode("ascii"), value.encode("ascii")


async def _send_whole(send: Send, status: int, body: bytes, headers: Headers) -> None:
    length = [] if status == 204 else [_header("content-length", str(len(body)))]
    await _send_head(send, status, [*headers, *length])
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _send_head(send: Send, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send_part(send: Send, chunk: bytes) -> None:
    if chunk:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _send_end(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"", "more_body": False})
