"""HTTP over the node's unix socket. The only file of the SDK that knows the HTTP library."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpcore

from cloche.model.errors import NodeUnreachableError, TimedOutError
from cloche.sdk import wire
from cloche.sdk._async import bridge
from cloche.sdk.wire import ConnectionLostError, Query

CONNECT_SECONDS = 10.0
#: a stream says something every 15 seconds, so a longer silence means that nobody is there
STREAM_SECONDS = 60.0
REPLY_SECONDS = 600.0

_LOST = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)


class AsyncReply:
    """An answer whose body is still to come. Close it, or the connection stays taken."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return self._response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ConnectionLostError when it is cut."""
        with _named_errors():
            async for chunk in self._response.aiter_stream():
                yield chunk

    async def read(self) -> bytes:
        """The whole body, and the end of this reply."""
        try:
            return b"".join([chunk async for chunk in self.chunks()])
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        with contextlib.suppress(*_LOST):
            await self._response.aclose()


class AsyncTransport:
    """The connections of one data directory's node, which is started when it does not answer."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.silence_seconds = STREAM_SECONDS
        """How long a stream may say nothing before it counts as broken."""
        self._socket: Path | None = None
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def ask(
        self, method: str, path: str, *, query: Query | None = None, json: object = None,
        content: AsyncIterator[bytes] | bytes | None = None, seconds: float = REPLY_SECONDS,
    ) -> bytes:  # fmt: skip
        """The body of the answer. Raises the typed error that the node gave, NodeUnreachableError, TimedOutError."""
        reply = await self.open(method, path, query=query, json=json, content=content, seconds=seconds)
        return await reply.read()

    async def open(
        self, method: str, path: str, *, query: Query | None = None, json: object = None,
        content: AsyncIterator[bytes] | bytes | None = None, seconds: float | None = None,
    ) -> AsyncReply:  # fmt: skip
        """Like `ask`, with the body still to be read. `seconds` None: as for a stream."""
        headers = [("Host", "cloche")]
        if json is not None:
            content = wire.encode(json)
            headers.append(("Content-Type", "application/json"))
        if isinstance(content, bytes) or (content is None and method in ("POST", "PUT")):
            headers.append(("Content-Length", str(len(content or b""))))
        elif content is not None:
            headers.append(("Transfer-Encoding", "chunked"))
        url = httpcore.URL(scheme=b"http", host=b"cloche", port=80, target=wire.target(path, query).encode("ascii"))
        timeout = {
            "connect": CONNECT_SECONDS,
            "read": self.silence_seconds if seconds is None else seconds,
            "write": None,
            "pool": CONNECT_SECONDS,
        }
        request = httpcore.Request(method, url, headers=headers, content=content, extensions={"timeout": timeout})
        return await self._checked(await self._send(request))

    async def aclose(self) -> None:
        """Close the idle connections; the next request opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()

    async def _send(self, request: httpcore.Request) -> httpcore.Response:
        """A request that never arrived is sent again, to a node that was started for it if need be; one that only
        asks may also be sent again after the connection broke."""
        try:
            return await self._send_once(request)
        except ConnectionLostError as error:
            if request.method != b"GET" and not isinstance(error, _NeverSentError):
                raise
        await self._find_node()
        return await self._send_once(request)

    async def _send_once(self, request: httpcore.Request) -> httpcore.Response:
        pool = self._pool or await self._find_node()
        with _named_errors():
            return await pool.handle_async_request(request)

    async def _find_node(self) -> httpcore.AsyncConnectionPool:
        # the pool stays when the socket does: others may be in the middle of a stream over it
        path = await bridge.start_node(self.home)
        if self._pool is None or path != self._socket:
            self._socket = path
            self._pool = httpcore.AsyncConnectionPool(
                uds=str(path), max_connections=None, max_keepalive_connections=8, keepalive_expiry=30.0
            )
        return self._pool

    async def _checked(self, response: httpcore.Response) -> AsyncReply:
        reply = AsyncReply(response)
        try:
            wire.check_version(response.headers)
            if response.status >= 300:
                raise wire.error_from(response.status, await reply.read())
        except BaseException:
            await reply.aclose()
            raise
        return reply


class _NeverSentError(ConnectionLostError):
    """Nothing of the request left this process."""


@contextlib.contextmanager
def _named_errors() -> Any:
    try:
        yield
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        raise _NeverSentError(f"no node answers: {error}", remedy="cloche node status") from error
    except _LOST as error:
        raise ConnectionLostError(
            f"the node went away in the middle of an answer: {error}", remedy="cloche logs --node"
        ) from error
    except httpcore.TimeoutException as error:
        raise TimedOutError("the node did not answer in time", remedy="cloche logs --node") from error
    except OSError as error:
        raise NodeUnreachableError(f"cannot talk to the node: {error}", remedy="cloche node status") from error
