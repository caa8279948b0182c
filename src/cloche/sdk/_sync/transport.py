# Made from ../_async/transport.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""HTTP over the node's unix socket: connections, requests, and what their failures become."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cloche.http1 import SMALL_BYTES, Answer, BodyFraming, Headers, ProtocolError, request_head
from cloche.model.errors import TimedOutError
from cloche.sdk import wire
from cloche.sdk._sync import bridge
from cloche.sdk._sync.stream import Stream
from cloche.sdk._sync.tunnel import Tunnel
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
    rest: Iterator[bytes] | bytes
    silence_seconds: float
    may_upgrade: bool = False


class Reply:
    """An answer whose body is still to come. Close it, or the connection stays taken."""

    def __init__(self, transport: Transport, stream: Stream, answer: Answer, silence_seconds: float) -> None:
        self._transport, self._stream, self._answer = transport, stream, answer
        self._silence_seconds = silence_seconds
        self._open = True

    @property
    def headers(self) -> Headers:
        """Names in lower case."""
        return self._answer.headers

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes. Raises ConnectionLostError when it is cut, TimedOutError."""
        while True:
            if piece := self._answer.take():
                yield piece
            elif not self._more():
                return

    def lines(self) -> Iterator[bytes]:
        """The body as it comes, line by line and without the newlines. Raises what `chunks` raises, and
        ConnectionLostError when it ends inside a line."""
        begun = b""
        for chunk in self.chunks():
            *whole, begun = (begun + chunk).split(b"\n")
            for line in whole:
                yield line
        if begun:
            raise _lost("it ends inside a line")

    def read(self) -> bytes:
        """The whole body, and the end of this reply."""
        try:
            while self._more():
                pass
            return self._answer.take()
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back, which ends it when the answer is not complete."""
        if self._open:
            self._open = False
            self._transport.release(self._stream, self._answer.reusable)

    def _more(self) -> bool:
        """Wait for more of the body. False: it is all there."""
        if not self._answer.complete:
            _hear(self._stream, self._answer, self._silence_seconds)
            return True
        self.close()
        return False


class Transport:
    """The connections of one data directory's node, which is started when it does not answer."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.silence_seconds = STREAM_SECONDS
        """How long a stream may say nothing before it counts as broken."""
        self._socket: str | None = None
        self._idle: list[tuple[float, Stream]] = []

    def ask(
        self, method: str, path: str, *, query: Query | None = None, json: object = None,
        content: Iterator[bytes] | bytes | None = None, seconds: float = REPLY_SECONDS,
    ) -> bytes:  # fmt: skip
        """The body of the answer. Raises the typed error that the node gave, NodeUnreachableError, TimedOutError."""
        reply = self.open(method, path, query=query, json=json, content=content, seconds=seconds)
        return reply.read()

    def open(
        self, method: str, path: str, *, query: Query | None = None, json: object = None,
        content: Iterator[bytes] | bytes | None = None, seconds: float | None = None,
    ) -> Reply:  # fmt: skip
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
        return self._checked(self._send(_Request(method, head, content, silence_seconds)))

    def upgrade(self, path: str, *, query: Query | None = None, protocol: str) -> Tunnel:
        """A connection of its own that the node carries somewhere. Raises the typed error that the node gave."""
        headers = [(b"Host", b"cloche"), (b"Connection", b"Upgrade"), (b"Upgrade", protocol.encode("ascii"))]
        headers.append((b"Content-Length", b"0"))
        head = request_head("POST", wire.target(path, query).encode("ascii"), headers)
        reply = self._checked(self._send(_Request("POST", head, b"", self.silence_seconds, True)))
        if reply._answer.status != 101:
            reply.close()
            raise _lost("it did not switch protocols")
        return Tunnel(reply._stream, reply._answer.leading)

    def close(self) -> None:
        """Close the idle connections; the next request opens new ones."""
        while self._idle:
            self._idle.pop()[1].close()

    def release(self, stream: Stream, reusable: bool) -> None:
        """A connection whose answer is complete may be used again."""
        if not reusable or len(self._idle) >= MAX_IDLE:
            stream.close()
        else:
            self._idle.append((time.monotonic(), stream))

    def _send(self, request: _Request) -> Reply:
        """A request that never arrived is sent again, to a node that was started for it if need be; one that only
        asks may also be sent again after the connection broke."""
        try:
            return self._send_once(request)
        except ConnectionLostError as error:
            if request.method != "GET" and not isinstance(error, _NeverSentError):
                raise
        self._find_node()
        return self._send_once(request)

    def _send_once(self, request: _Request) -> Reply:
        stream, answer = self._connection(), Answer(may_upgrade=request.may_upgrade)
        try:
            _say(stream, request)
            while not answer.status:
                _hear(stream, answer, request.silence_seconds)
        except BaseException:
            stream.close()
            raise
        return Reply(self, stream, answer, request.silence_seconds)

    def _connection(self) -> Stream:
        while self._idle:
            since, stream = self._idle.pop()
            if time.monotonic() - since < IDLE_SECONDS and stream.quiet():
                return stream
            stream.close()
        path = self._socket or self._find_node()
        try:
            return Stream.open(path, CONNECT_SECONDS)
        except OSError as error:
            raise _never_sent(error) from error

    def _find_node(self) -> str:
        self._socket = str(bridge.start_node(self.home))
        return self._socket

    def _checked(self, reply: Reply) -> Reply:
        try:
            wire.check_version(reply.headers)
            if reply._answer.status >= 300:
                raise wire.error_from(reply._answer.status, reply.read())
        except BaseException:
            reply.close()
            raise
        return reply


class _NeverSentError(ConnectionLostError):
    """Nothing of the request left this process."""


def _say(stream: Stream, request: _Request) -> None:
    """A node that stops listening in the middle may have said why: what cannot be sent is no error yet."""
    try:
        stream.send(request.begin)
    except OSError as error:
        raise _never_sent(error) from error
    if isinstance(request.rest, bytes):
        _sent(stream, request.rest)
        return
    framing = BodyFraming(None)
    for piece in request.rest:
        if not _sent(stream, framing.piece(piece)):
            return
    _sent(stream, framing.end())


def _sent(stream: Stream, data: bytes) -> bool:
    try:
        if data:
            stream.send(data)
    except OSError:
        return False
    return True


def _hear(stream: Stream, answer: Answer, seconds: float) -> None:
    try:
        data = stream.receive(seconds)
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
