"""Requests over a channel: connections, timeouts, and what the guest's answers and failures become."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote_from_bytes

import msgspec

from cloche.channel.base import Channel
from cloche.guest_api import network, text
from cloche.guest_api.network import Connections, Exchange, exchange
from cloche.http1 import Headers
from cloche.model import errors

T = TypeVar("T")
Body = network.Body
Query = Mapping[str, object]

MAX_JSON_BYTES = 16 << 20
MAX_ERROR_BYTES = 1 << 20
MAX_MESSAGE_CHARS = 8192
#: short calls never wait for a connection that a long stream holds: each kind has connections of its own
MAX_CALLS = 32
MAX_STREAMS = 512
CALL_TIMEOUT_SECONDS = 30.0
#: frames and watches say something at least every 15 s
STREAM_SILENCE_SECONDS = 60.0
HEADERS: Headers = [(b"Host", b"guest")]
#: what a guest may say went wrong; other codes are the host's own to give
GUEST_CODES = frozenset({"invalid", "not_found", "already_exists", "wrong_state", "permission_denied", "no_space",
                         "needs_subuid", "unavailable_here", "interpreter_missing", "limit_hit"})  # fmt: skip


class Transport:
    """One guest's connections. May be used by many tasks at once; an async context manager."""

    def __init__(self, channel: Channel) -> None:
        self._calls = Connections(channel, most=MAX_CALLS, kept=8)
        self._streams = Connections(channel, most=MAX_STREAMS, kept=4)

    async def close(self) -> None:
        """Close the connections; the channel stays its owner's."""
        await self._calls.close()
        await self._streams.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: str, target: bytes, body: object = None, *,
                    timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> bytes:  # fmt: skip
        """A JSON request with a short answer; the answer's bytes. The time is for the whole: a guest that sends one
        byte now and then does not hold a caller longer."""
        headers, content = _json_body(body)
        request = self._request(self._calls, method, target, headers, content, None)
        try:
            async with asyncio.timeout(timeout_seconds), request as response:
                return await read_bounded(response, MAX_JSON_BYTES)
        except TimeoutError as error:
            raise errors.TimedOutError(f"the guest did not answer in {timeout_seconds:g} s") from error

    async def _ask(self, kind: type[T], method: str, target: bytes, body: object = None, *,
                   timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> T:  # fmt: skip
        return text.decode(await self._call(method, target, body, timeout_seconds=timeout_seconds), kind)

    @contextlib.asynccontextmanager
    async def _stream(
        self, method: str, target: bytes, headers: Headers | None = None, body: Body = b"",
        silence_seconds: float | None = STREAM_SILENCE_SECONDS,
    ) -> AsyncIterator[Exchange]:  # fmt: skip
        """A request whose body or answer may be long. Leaving it closes the stream."""
        request = self._request(self._streams, method, target, headers or [], body, silence_seconds)
        async with request as response:
            yield response

    async def _upload(self, kind: type[T], method: str, target: bytes, body: Body) -> T:
        async with self._stream(method, target, body_headers(body), body) as response:
            return text.decode(await read_bounded(response, MAX_JSON_BYTES), kind)

    @contextlib.asynccontextmanager
    async def _request(
        self, connections: Connections, method: str, target: bytes, headers: Headers,
        body: Body, silence_seconds: float | None,
    ) -> AsyncIterator[Exchange]:  # fmt: skip
        response = await send(connections, method, target, headers, body, silence_seconds)
        try:
            if response.status >= 300:
                raise error_of(response.status, await read_bounded(response, MAX_ERROR_BYTES))
            yield response
        finally:
            await response.aclose()


async def send(
    connections: Connections, method: str, target: bytes, headers: Headers, body: Body, silence_seconds: float | None
) -> Exchange:
    """The answer's head, whatever its status. The caller closes it."""
    return await exchange(connections, method, target, HEADERS + headers, body, silence_seconds)


def chunks_of(response: Exchange) -> AsyncIterator[bytes]:
    """The body as it comes. Raises SandboxDeadError when it is cut, GuestError, TimedOutError."""
    return response.chunks()


async def read_bounded(response: Exchange, most: int) -> bytes:
    """The whole body. Raises GuestError as soon as it is larger than `most` bytes."""
    return await response.read(most)


class _ErrorBody(msgspec.Struct):
    code: str
    message: str = ""
    details: dict[str, Any] | None = None


class _ErrorAnswer(msgspec.Struct):
    error: _ErrorBody


def error_of(status: int, content: bytes) -> errors.ClocheError:
    """The error that an answer of this status and body means."""
    try:
        answer = text.decode(content, _ErrorAnswer).error
    except errors.GuestError:
        return errors.GuestError(f"the guest answered {status} without a reason", status=status)
    if answer.code not in GUEST_CODES:
        return errors.GuestError(f"the guest failed: {answer.message[:MAX_MESSAGE_CHARS]}", status=status)
    error = errors.BY_CODE[answer.code](answer.message[:MAX_MESSAGE_CHARS])
    error.details = dict(_small_details(answer.details or {}))
    return error


def _small_details(details: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in list(details.items())[:32]:
        if _is_small(value) or (isinstance(value, list) and len(value) <= 32 and all(map(_is_small, value))):
            yield key[:256], value


def _is_small(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= MAX_MESSAGE_CHARS)


def target(path: str, query: Query | None = None) -> bytes:
    """A request target. Values: None is left out, True and False are 1 and 0, strings may stand for any bytes."""
    pairs = [f"{key}={_quoted(value)}" for key, value in (query or {}).items() if value is not None]
    return (path + ("?" + "&".join(pairs) if pairs else "")).encode("ascii")


def segment(value: str) -> str:
    return quote_from_bytes(text.path_bytes(value), safe="")


def _quoted(value: object) -> str:
    plain = str(int(value)) if isinstance(value, bool) else str(value)
    return quote_from_bytes(text.path_bytes(plain), safe="/")


def body_headers(body: Body) -> Headers:
    if isinstance(body, bytes):
        return [(b"Content-Length", str(len(body)).encode())]
    return [(b"Transfer-Encoding", b"chunked")]


def _json_body(body: object) -> tuple[Headers, bytes]:
    if body is None:
        return [(b"Content-Length", b"0")], b""
    content = text.encode(body)
    return [(b"Content-Type", b"application/json"), *body_headers(content)], content
