"""Both sides of the door for its tests, on loopback: clients that say exact bytes, sites that answer exact bytes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from cloche.channel.unix import UnixStream
from cloche.egress.hooks import DialError, Exchange, LimitHit
from cloche.egress.messages import GivenSecret
from cloche.egress.secrecy.secrets import new_placeholder
from cloche.egress.tls.authority import Authority
from cloche.model.egress import Decision, Secret

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
VALUE = "v4lue/of+the.secret"


def a_secret(name: str = "TOKEN", value: str | None = VALUE, host: str = "api.example.com", **more) -> GivenSecret:
    return GivenSecret(secret=Secret(name=name, hosts=[host], **more), placeholder=new_placeholder(), value=value)


@dataclass
class PeerHooks:
    """`sites`: host → (address, port). `denied`: hosts, or paths of requests."""

    sites: dict[str, tuple[str, int]] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    given: list[GivenSecret] = field(default_factory=list)
    records: list[Exchange] = field(default_factory=list)
    events: list[dict] = field(default_factory=list)
    decided: list[tuple] = field(default_factory=list)
    dialled: list[tuple[str, int]] = field(default_factory=list)
    metered: list[int] = field(default_factory=lambda: [0, 0])
    most_out: int | None = None
    most_in: int | None = None
    held: list[int] = field(default_factory=list)
    most_held: int | None = None
    handshakes: list[bool] = field(default_factory=list)
    no_handshake: bool = False
    pieces: int = 256 << 10
    sandbox: str = "box"
    recorded: asyncio.Event = field(default_factory=asyncio.Event)

    async def decide(self, host, port, protocol, method, path):
        self.decided.append((host, port, protocol, method, path))
        if {host, path} & self.denied:
            return Decision(action="deny", rule="default", reason="no rule allows it", remedy=host)
        return Decision(action="allow", rule="rule 1")

    async def dial(self, host, port):
        self.dialled.append((host, port))
        if host not in self.sites:
            raise DialError("nobody there")
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.sites[host])
        return UnixStream(sock)

    def secrets(self, host):
        return [one for one in self.given if host in one.secret.hosts]

    def every_secret(self):
        return self.given

    def record(self, exchange):
        self.records.append(exchange)
        self.recorded.set()

    def happened(self, kind, data):
        assert kind == "egress_secret"
        self.events.append(data)

    def hold(self, count):
        self.held.append(count)
        if self.most_held is not None and count > self.most_held:
            raise LimitHit("held_bytes")

    def may_hold(self, count):
        return self.most_held is None or count <= self.most_held

    @contextlib.asynccontextmanager
    async def handshake(self, is_new_name):
        self.handshakes.append(is_new_name())
        if self.no_handshake:
            raise LimitHit("certificates", "too many names")
        yield

    def piece_bytes(self):
        return self.pieces

    async def meter(self, sent=0, received=0):
        self.metered[0] += sent
        self.metered[1] += received
        for total, most, name in zip(
            self.metered, (self.most_out, self.most_in), ("bytes_out", "bytes_in"), strict=True
        ):
            if most is not None and total > most:
                raise LimitHit(name)


@contextlib.asynccontextmanager
async def a_site(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, int]]:
    """Listens until the end, and raises what a handler has raised."""
    errors: list[BaseException] = []
    running: set[asyncio.Task] = set()

    async def serve(reader, writer):
        task = asyncio.current_task()
        running.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            errors.append(error)
        finally:
            running.discard(task)
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, limit=1 << 20)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    for error in errors:
        raise error


@contextlib.asynccontextmanager
async def a_door(serve: Callable[[UnixStream], Awaitable[object]]) -> AsyncIterator[tuple[str, int]]:
    """Hands each connection to `serve`, and raises what it raised."""
    # what is older is nothing that is looked for in the end
    gc.freeze()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    loop, tasks = asyncio.get_running_loop(), []
    faults: list[dict] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))

    async def accept():
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setblocking(False)
            tasks.append(asyncio.ensure_future(serve(UnixStream(sock))))

    accepting = asyncio.ensure_future(accept())
    try:
        yield listener.getsockname()
        # what ended by itself must not have raised; what still waits is ended
        for task in [one for one in tasks if one.done()]:
            task.result()
    finally:
        for task in [accepting, *tasks]:
            task.cancel()
        await asyncio.gather(accepting, *tasks, return_exceptions=True)
        listener.close()
        # a task whose exception nobody took is found when it goes
        tasks.clear()
        gc.collect()
        gc.unfreeze()
    assert not faults


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, data: bytes, body_too: bool = True) -> tuple[int, bytes, bytes]:
        """Status, head, body of an answer with a length or in chunks, or until the end."""
        await self.say(data)
        return await self.answer(body_too)

    async def answer(self, body_too: bool = True) -> tuple[int, bytes, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        return status, head, await self._body(head.lower()) if body_too else b""

    async def _body(self, head: bytes) -> bytes:
        if b"content-length:" in head:
            return await self.reader.readexactly(int(head.split(b"content-length:")[1].split()[0]))
        if b"chunked" not in head:
            return await self.reader.read()
        body = b""
        while size := int(await self.reader.readuntil(b"\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readline()
        return body

    def reset(self) -> None:
        """Gone, and not only finished."""
        linger = struct.pack("@ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(Exception):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def a_client(address: tuple[str, int], context: ssl.SSLContext | None = None, name: str | None = None):
    client = Client(*await asyncio.open_connection(*address, ssl=context, server_hostname=name))
    try:
        yield client
    finally:
        await client.close()


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of one request; b"", b"" at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b"", b""
    lower = head.lower()
    if b"content-length:" in lower:
        return head, await reader.readexactly(int(lower.split(b"content-length:")[1].split()[0]))
    if b"transfer-encoding: chunked" in lower:
        return head, await Client(reader, None)._body(lower)
    return head, b""


def ok(body: bytes = b"", *headers: bytes) -> bytes:
    more = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (more, len(body), body)


def answering(*answers: bytes, seen: list[bytes] | None = None) -> Handler:
    """One answer for each request of a connection, the last for all that follow; `seen` gets the requests."""

    async def handler(reader, writer):
        left = list(answers)
        while (request := await read_request(reader))[0]:
            if seen is not None:
                seen.append(b"".join(request))
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()

    return handler


async def echo(reader, writer):
    """Gives back the whole request as body."""
    while (request := await read_request(reader))[0]:
        writer.write(ok(b"".join(request)))
        await writer.drain()


class Memory:
    """One end of a stream in memory, which gives its bytes in exactly the pieces that `pieces` says."""

    def __init__(self, *pieces: bytes, ends: bool = True) -> None:
        self.written = b""
        self.eof = self.closed = False
        self._pieces = [piece for piece in pieces if piece]
        self._ends = ends
        self._over = asyncio.Event()

    async def read(self, max_bytes: int) -> bytes:
        if self._pieces:
            await asyncio.sleep(0)
            piece = self._pieces.pop(0)
            if len(piece) > max_bytes:
                self._pieces.insert(0, piece[max_bytes:])
            return piece[:max_bytes]
        if not self._ends:
            await self._over.wait()
        return b""

    async def write(self, data: bytes) -> None:
        if self.closed or self.eof:
            raise ConnectionResetError("it is closed")
        self.written += data

    async def write_eof(self) -> None:
        self.eof = True

    async def close(self) -> None:
        self.closed = True
        self._over.set()
