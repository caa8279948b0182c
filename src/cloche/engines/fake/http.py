"""HTTP/1.1 on one in-memory stream, by h11: requests in, answers out, streaming both ways."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast
from urllib.parse import unquote_to_bytes

import h11

from cloche.engines.fake.streams import MemoryStream
from cloche.guest_api import text
from cloche.model import errors

T = TypeVar("T")
MAX_BODY_BYTES = 64 << 20
READ_BYTES = 64 << 10


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: AsyncIterator[bytes]

    async def content(self) -> bytes:
        data = bytearray()
        async for chunk in self.body:
            data += chunk
            if len(data) > MAX_BODY_BYTES:
                raise errors.InvalidError(f"a body of more than {MAX_BODY_BYTES} bytes")
        return bytes(data)

    async def json(self, kind: type[T]) -> T:
        try:
            return text.decode(await self.content() or b"{}", kind)
        except errors.GuestError as error:
            raise errors.InvalidError(error.message) from error

    def number(self, name: str, default: int) -> int:
        try:
            return int(self.query.get(name, default))
        except ValueError as error:
            raise errors.InvalidError(f"{name} is no number: {self.query[name]!r}", field=name) from error

    def flag(self, name: str, default: bool = False) -> bool:
        return self.query.get(name, "1" if default else "0") in ("1", "true")


@dataclass
class Answer:
    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    headers: list[tuple[str, str]] = field(default_factory=list)


App = Callable[[Request], Awaitable[Answer]]


def json_answer(value: object, status: int = 200) -> Answer:
    return Answer(status, text.encode(value), [("Content-Type", "application/json")])


async def serve(stream: MemoryStream, app: App, running: asyncio.Event) -> None:
    """Answer requests until the client goes away; be silent while `running` is not set, as a frozen guest is."""
    connection = Connection(stream, running)
    with contextlib.suppress(OSError, h11.ProtocolError):
        while await connection.cycle(app):
            pass
    stream.close_now()


class Connection:
    def __init__(self, stream: MemoryStream, running: asyncio.Event) -> None:
        self._stream = stream
        self._running = running
        self._state = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)

    async def cycle(self, app: App) -> bool:
        """One request and its answer; whether another may follow."""
        event = await self._next()
        if not isinstance(event, h11.Request):
            return False
        request = _request(event, self._body())
        await self._send(await _answer(app, request))
        async for _ in request.body:
            pass
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        return True

    async def _body(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._next(), h11.Data):
            yield bytes(event.data)

    async def _send(self, answer: Answer) -> None:
        whole = answer.body if isinstance(answer.body, bytes) else None
        headers = list(answer.headers)
        if whole is not None:
            headers.append(("Content-Length", str(len(whole))))
        elif not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("Transfer-Encoding", "chunked"))
        await self._write(h11.Response(status_code=answer.status, headers=headers))
        if whole is not None:
            await self._write(h11.Data(data=whole))
        else:
            await self._send_chunks(cast(AsyncIterator[bytes], answer.body))
        await self._write(h11.EndOfMessage())

    async def _send_chunks(self, chunks: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in chunks:
                await self._write(h11.Data(data=chunk))
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    async def _write(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        data = self._state.send(event)
        if data:
            await self._running.wait()
            await self._stream.write(data)

    async def _next(self) -> object:
        while (event := self._state.next_event()) is h11.NEED_DATA:
            data = await self._stream.read(READ_BYTES)
            await self._running.wait()
            self._state.receive_data(data)
        return event


async def _answer(app: App, request: Request) -> Answer:
    try:
        return await app(request)
    except errors.ClocheError as error:
        return json_answer(error.to_json(), error.http_status)


def _request(event: h11.Request, body: AsyncIterator[bytes]) -> Request:
    path, _, query = event.target.decode("ascii").partition("?")
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return Request(event.method.decode(), _unquote(path), {key: _unquote(value) for key, _, value in pairs}, body)


def _unquote(value: str) -> str:
    return unquote_to_bytes(value).decode("utf-8", "surrogateescape")
