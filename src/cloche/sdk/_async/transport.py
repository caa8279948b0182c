"""HTTP over the node's unix socket: connections, requests, and what their failures become."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from cloche.http1 import SMALL_BYTES, Answer, BodyFraming, Headers, ProtocolError, request_head
from cloche.model.errors import TimedOutError
from cloche.sdk import wire
from cloche.sdk._async import bridge
from cloche.sdk._async.stream import AsyncStream
from cloche.sdk._async.tunnel import AsyncTunnel
from cloche.sdk.wire import ConnectionLostError, Query

CONNECT_SECONDS = 10.0
#: a stream says something every 15 seconds, so a longer silence means that nobody is there
STREAM_SECONDS = 60.0
REPLY_SECONDS = 600.0
#: idle connections: how many are kept, and for how long; the node keeps its end for longer
MAX_IDLE = 8
IDLE_SECONDS = 30.0


class _Request(NamedTuple):
    """`begin`: the head, with the body when that is small. A `rest` that is an iterator goes out in chunks.
    `silence_seconds`: how long the answer may say nothing."""

    method: str
    begin: bytes
    rest: AsyncIterator[bytes] | bytes
    silence_seconds: float
    may_upgrade: bool = False


class AsyncReply:
    """An answer whose body is still to come. Close it, or the connection stays taken."""

    def __init__(self, transport: AsyncTransport, stream: AsyncStream, answer: Answer, silence_seconds: float) -> None:
        self._transport, self._stream, self._answer = transport, stream, answer
        self._silence_seconds = silence_seconds
        self._open = True

    @property
    def headers(self) -> Headers:
        """Names in lower case."""
        return self._answer.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ConnectionLostError when it is cut, TimedOutError."""
        while True:
            if piece := self._answer.take():
                yield piece
            elif not await self._more():
                return

    async def lines(self) -> AsyncIterator[bytes]:
        """The body as it comes, line by line and without the newlines. Raises what `chunks` raises, and
        ConnectionLostError when it ends inside a line."""
        begun = b""
        async for chunk in self.chunks():
            *whole, begun = (begun + chunk).split(b"\n")
            for line in whole:
                yield line
        if begun:
            raise _lost("it ends inside a line")

    async def read(self) -> bytes:
        """The whole body, and the end of this reply."""
        try:
            while await self._more():
                pass
            return self._answer.take()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Give the connection back, which ends it when the answer is not complete."""
        if self._open:
            self._open = False
            self._transport.release(self._stream, self._answer.reusable)

    async def _more(self) -> bool:
        """Wait for more of the body. False: it is all there."""
        if not self._answer.complete:
            await _hear(self._stream, self._answer, self._silence_seconds)
            return True
        await self.aclose()
        return False


class AsyncTransport:
    """The connections of one data directory's node, which is started when it does not answer."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.silence_seconds = STREAM_SECONDS
        """How long a stream may say nothing before it counts as broken."""
        self._socket: str | None = None
        self._idle: list[tuple[float, AsyncStream]] = []

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
        headers = [(b"Host", b"cloche")]
        if json is not None:
            content = wire.encode(json)
            headers.append((b"Content-Type", b"application/json"))
        if isinstance(content, bytes) or (content is None and method in ("POST", "PUT")):
            headers.append((b"Content-Length", b"%d" % len(content or b"")))
        elif content is not None:
            headers.append((b"Transfer-Encoding", b"chunked"))
        head = request_head(method, wire.target(path, query).encode("ascii"), headers)
        content = content or b""
        if isinstance(content, bytes) and len(content) <= SMALL_BYTES:
            head, content = head + content, b""
        silence_seconds = self.silence_seconds if seconds is None else seconds
        return await self._checked(await self._send(_Request(method, head, content, silence_seconds)))

    async def upgrade(self, path: str, *, query: Query | None = None, protocol: str) -> AsyncTunnel:
        """A connection of its own that the node carries somewhere. Raises the typed error that the node gave."""
        headers = [(b"Host", b"cloche"), (b"Connection", b"Upgrade"), (b"Upgrade", protocol.encode("ascii"))]
        headers.append((b"Content-Length", b"0"))
        head = request_head("POST", wire.target(path, query).encode("ascii"), headers)
        reply = await self._checked(await self._send(_Request("POST", head, b"", self.silence_seconds, True)))
        if reply._answer.status != 101:
            await reply.aclose()
            raise _lost("it did not switch protocols")
        return AsyncTunnel(reply._stream, reply._answer.leading)

    async def aclose(self) -> None:
        """Close the idle connections; the next request opens new ones."""
        while self._idle:
            self._idle.pop()[1].close()

    def release(self, stream: AsyncStream, reusable: bool) -> None:
        """A connection whose answer is complete may be used again."""
        if not reusable or len(self._idle) >= MAX_IDLE:
            stream.close()
        else:
            self._idle.append((time.monotonic(), stream))

    async def _send(self, request: _Request) -> AsyncReply:
        """A request that never arrived is sent again, to a node that was started for it if need be; one that only
        asks may also be sent again after the connection broke."""
        try:
            return await self._send_once(request)
        except ConnectionLostError as error:
            if request.method != "GET" and not isinstance(error, _NeverSentError):
                raise
        await self._find_node()
        return await self._send_once(request)

    async def _send_once(self, request: _Request) -> AsyncReply:
        stream, answer = await self._connection(), Answer(may_upgrade=request.may_upgrade)
        try:
            await _say(stream, request)
            while not answer.status:
                await _hear(stream, answer, request.silence_seconds)
        except BaseException:
            stream.close()
            raise
        return AsyncReply(self, stream, answer, request.silence_seconds)

    async def _connection(self) -> AsyncStream:
        while self._idle:
            since, stream = self._idle.pop()
            if time.monotonic() - since < IDLE_SECONDS and stream.quiet():
                return stream
            stream.close()
        path = self._socket or await self._find_node()
        try:
            return await AsyncStream.open(path, CONNECT_SECONDS)
        except OSError as error:
            raise _never_sent(error) from error

    async def _find_node(self) -> str:
        self._socket = str(await bridge.start_node(self.home))
        return self._socket

    async def _checked(self, reply: AsyncReply) -> AsyncReply:
        try:
            wire.check_version(reply.headers)
            if reply._answer.status >= 300:
                raise wire.error_from(reply._answer.status, await reply.read())
        except BaseException:
            await reply.aclose()
            raise
        return reply


class _NeverSentError(ConnectionLostError):
    """Nothing of the request left this process."""


async def _say(stream: AsyncStream, request: _Request) -> None:
    """A node that stops listening in the middle may have said why: what cannot be sent is no error yet."""
    try:
        await stream.send(request.begin)
    except OSError as error:
        raise _never_sent(error) from error
    if isinstance(request.rest, bytes):
        await _sent(stream, request.rest)
        return
    framing = BodyFraming(None)
    async for piece in request.rest:
        if not await _sent(stream, framing.piece(piece)):
            return
    await _sent(stream, framing.end())


async def _sent(stream: AsyncStream, data: bytes) -> bool:
    try:
        if data:
            await stream.send(data)
    except OSError:
        return False
    return True


async def _hear(stream: AsyncStream, answer: Answer, seconds: float) -> None:
    try:
        data = await stream.receive(seconds)
        if not data:
            raise _lost("it closed the connection")
        answer.feed(data)
    except TimeoutError as error:
        raise TimedOutError("the node did not answer in time", remedy="cloche logs --node") from error
    except (OSError, ProtocolError) as error:
        raise _lost(error) from error


def _lost(why: object) -> ConnectionLostError:
    return ConnectionLostError(f"the node went away in the middle of an answer: {why}", remedy="cloche logs --node")


def _never_sent(error: OSError) -> ConnectionLostError:
    return _NeverSentError(f"no node answers: {error}", remedy="cloche node status")
