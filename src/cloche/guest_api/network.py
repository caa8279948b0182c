"""Connections to one guest, made of streams that its channel opens, and one exchange on such a stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator

from cloche.channel.base import ByteStream, Channel
from cloche.http1 import Answer, BodyFraming, Headers, ProtocolError, request_head
from cloche.model import errors

Body = bytes | AsyncIterable[bytes]

CONNECT_SECONDS = 15.0
IDLE_SECONDS = 30.0
READ_BYTES = 256 << 10


class Connections:
    """At most `most` at once, of which `kept` stay open while nobody uses them."""

    def __init__(self, channel: Channel, *, most: int, kept: int) -> None:
        self._channel = channel
        self._free = asyncio.Semaphore(most)
        self._kept = kept
        self._idle: list[tuple[float, ByteStream]] = []
        self._used: set[ByteStream] = set()

    async def take(self) -> ByteStream:
        """Give it back. Raises LimitHitError when none becomes free, and what the channel raises."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS if self._free.locked() else None):
                await self._free.acquire()
        except TimeoutError as error:
            raise errors.LimitHitError(
                "too many requests to this sandbox at once", limit="guest_connections"
            ) from error
        try:
            stream = await self._kept_one() or await self._new()
        except BaseException:
            self._free.release()
            raise
        self._used.add(stream)
        return stream

    async def give_back(self, stream: ByteStream, *, reusable: bool) -> None:
        if stream not in self._used:
            return
        self._used.discard(stream)
        self._free.release()
        if reusable and len(self._idle) < self._kept:
            self._idle.append((time.monotonic(), stream))
        else:
            await stream.close()

    async def close(self) -> None:
        """Those in use too: whoever waits on one is told that it broke."""
        idle, self._idle = self._idle, []
        for stream in [*(stream for _, stream in idle), *self._used]:
            await stream.close()

    async def _kept_one(self) -> ByteStream | None:
        while self._idle:
            since, stream = self._idle.pop()
            # nothing may come on a connection without a request, not even its end
            readable = getattr(stream, "readable", None)
            if time.monotonic() - since < IDLE_SECONDS and not (readable and readable()):
                return stream
            await stream.close()
        return None

    async def _new(self) -> ByteStream:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._channel.open()
        except TimeoutError as error:
            raise errors.TimedOutError("the guest did not answer in time") from error
        except OSError as error:
            raise _broken(error) from error


class Exchange:
    """One request and its answer. Close it, or the connection stays taken; `silence_seconds` None: wait for ever."""

    def __init__(self, connections: Connections, stream: ByteStream, answer: Answer, silence_seconds: float | None):
        self._connections, self._stream, self._answer = connections, stream, answer
        self._silence_seconds = silence_seconds

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Headers:
        """Names in lower case."""
        return self._answer.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises SandboxDeadError when it is cut, GuestError, TimedOutError."""
        while True:
            if piece := self._answer.take():
                yield piece
            if self._answer.complete:
                return
            await self.hear()

    async def read(self, most: int) -> bytes:
        """The whole body. Raises GuestError as soon as it is larger than `most` bytes."""
        content = bytearray()
        while True:
            content += self._answer.take()
            if len(content) > most:
                raise errors.GuestError(f"the guest's answer is larger than {most} bytes")
            if self._answer.complete:
                return bytes(content)
            await self.hear()

    async def aclose(self) -> None:
        await self._connections.give_back(self._stream, reusable=self._answer.reusable)

    def upgraded(self) -> UpgradedStream:
        """The stream after a 101, which ends this exchange when it is closed."""
        return UpgradedStream(self._stream, self._answer.leading, self)

    async def hear(self) -> None:
        """Wait for more of the answer."""
        try:
            async with asyncio.timeout(self._silence_seconds):
                data = await self._stream.read(READ_BYTES)
        except TimeoutError as error:
            raise errors.TimedOutError("the guest did not answer in time") from error
        except OSError as error:
            raise _broken(error) from error
        if not data:
            raise _broken("the guest closed the stream")
        try:
            self._answer.feed(data)
        except ProtocolError as error:
            raise errors.GuestError(f"the guest does not speak HTTP: {error}") from error

    async def say(self, head: bytes, body: Body, framing: BodyFraming) -> None:
        """The head waits for what follows, so that a small request wakes the guest once. A guest that closes early may
        have said why: what cannot be sent is no error yet."""
        if isinstance(body, bytes):
            head += _framed(framing, body)
        else:
            async for piece in body:
                data, head = head + _framed(framing, piece), b""
                if not await self._sent(data):
                    return
        await self._sent(head + _end(framing))

    async def _sent(self, data: bytes) -> bool:
        if not data:
            return True
        try:
            async with asyncio.timeout(self._silence_seconds):
                await self._stream.write(data)
        except TimeoutError as error:
            raise errors.TimedOutError("the guest did not answer in time") from error
        except OSError:
            return False
        return True


async def exchange(
    connections: Connections, method: str, target: bytes, headers: Headers, body: Body, silence_seconds: float | None
) -> Exchange:
    """The answer's head, whatever its status. The caller closes it. Raises InvalidError for what HTTP cannot carry."""
    try:
        head, framing = request_head(method, target, headers), BodyFraming(_length(headers))
    except ValueError as error:
        raise _uncarriable(error) from error
    answer = Answer(may_upgrade=any(name == b"Upgrade" for name, _ in headers))
    made = Exchange(connections, await connections.take(), answer, silence_seconds)
    try:
        await made.say(head, body, framing)
        while not answer.status:
            await made.hear()
    except BaseException:
        await made.aclose()
        raise
    return made


def _framed(framing: BodyFraming, piece: bytes) -> bytes:
    try:
        return framing.piece(piece)
    except ValueError as error:
        raise _uncarriable(error) from error


def _end(framing: BodyFraming) -> bytes:
    try:
        return framing.end()
    except ValueError as error:
        raise _uncarriable(error) from error


def _length(headers: Headers) -> int | None:
    """None: in chunks. A head that says nothing of a body promises that there is none. Raises ValueError."""
    for name, value in headers:
        if name.lower() == b"transfer-encoding":
            return None
        if name.lower() == b"content-length":
            if not value.isdigit() or len(value) > 19:
                raise ValueError(f"not a length: {value[:64]!r}")
            return int(value)
    return 0


def _uncarriable(error: ValueError) -> errors.InvalidError:
    return errors.InvalidError(f"not a request that HTTP can carry: {error}")


def _broken(why: object) -> errors.SandboxDeadError:
    return errors.SandboxDeadError(f"the connection to the guest broke: {why}", reason="guest_lost")


class UpgradedStream:
    """A ByteStream after `101`: first what came with the answer's head, then the raw stream."""

    def __init__(self, stream: ByteStream, leading: bytes, release: Exchange) -> None:
        self._stream = stream
        self._leading = leading
        self._release = release

    async def read(self, max_bytes: int) -> bytes:
        if self._leading:
            data, self._leading = self._leading[:max_bytes], self._leading[max_bytes:]
            return data
        return await self._stream.read(max_bytes)

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def write_eof(self) -> None:
        await self._stream.write_eof()

    async def close(self) -> None:
        await self._stream.close()
        await self._release.aclose()
