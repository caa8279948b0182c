"""A guest that is only its dial route, servers inside it, and a client that speaks HTTP by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from cloche.egress.inner import guest_streams
from cloche.egress.inner.guest_streams import at_socket
from cloche.egress.inward import published as dialling
from cloche.egress.inward.ingress import Ingress

SANDBOX = "sb_01abc"
SLUG = "8000-01abc"


class StandInGuest:
    """`ports`: what listens inside, as a coroutine of (reader, writer). `paused`: it accepts and says nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ports = {}
        self.dialled = 0
        self.open = 0
        self.changed = asyncio.Condition()
        self.paused = False
        self.listens_on = b"127.0.0.1"
        self._tasks = set()

    async def serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(asyncio.current_task())

    async def _serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if self.paused:
            await reader.read()
            return
        port = int(head.split(b"port=")[1].split()[0].split(b"&")[0])
        if port not in self.ports or b"host=%b " % self.listens_on not in head:
            body = b'{"error": {"code": "not_found"}}'
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return
        writer.write(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: cloche-stream\r\n\r\n")
        self.dialled += 1
        await self._count(1)
        try:
            await self.ports[port](reader, writer)
            await writer.drain()
        finally:
            await self._count(-1)

    async def _count(self, by):
        async with self.changed:
            self.open += by
            self.changed.notify_all()

    async def until_open(self, count):
        async with self.changed:
            await self.changed.wait_for(lambda: self.open == count)

    async def close(self):
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class World:
    def __init__(self, guest, ingress, address) -> None:
        self.guest, self.ingress, self.address = guest, ingress, address
        self.host = f"{SLUG}.localhost:{ingress.port}"

    @contextlib.asynccontextmanager
    async def client(self, port=None, host="127.0.0.1"):
        reader, writer = await asyncio.open_connection(host, port or self.ingress.port, limit=1 << 22)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, head="GET / HTTP/1.1", *headers, host=None, body=b""):
        """(status, head, body) on a connection of its own."""
        async with self.client() as (reader, writer):
            writer.write(request(head, f"Host: {host or self.host}", *headers) + body)
            return await answer(reader, bodiless=head.startswith("HEAD"))


@contextlib.asynccontextmanager
async def published(tmp_path, *handlers):
    """`handlers`: what listens on port 8000, or nothing."""
    guest = StandInGuest(tmp_path / "guest.sock")
    guest.ports.update(dict.fromkeys([8000], *handlers[:1]) if handlers else {})
    server = await asyncio.start_unix_server(guest.serve, guest.path, limit=1 << 22)
    known = {SANDBOX: at_socket(str(guest.path)), "sb_02def": at_socket(str(guest.path))}
    visits = []
    ingress = Ingress(known.get, visits.append)
    try:
        ingress.start(0)
        address = await ingress.publish(SANDBOX, 8000, SLUG)
        world = World(guest, ingress, address)
        world.visits = visits
        yield world
    finally:
        await ingress.close()
        server.close()
        await guest.close()
        await server.wait_closed()


def have_patience(monkeypatch):
    """Many connections on a busy machine take longer than a guest may."""
    monkeypatch.setattr(dialling, "DIAL_SECONDS", 60.0)
    monkeypatch.setattr(guest_streams, "UPGRADE_SECONDS", 60.0)


def request(line, *headers):
    return "".join(f"{text}\r\n" for text in (line, *headers, "")).encode()


async def answer(reader, *, bodiless=False):
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split()[1])
    if bodiless:
        return status, head, b""
    lowered = head.lower()
    if b"content-length:" in lowered:
        return status, head, await reader.readexactly(int(lowered.split(b"content-length:")[1].split()[0]))
    if b"transfer-encoding: chunked" in lowered:
        return status, head, await unchunked(reader)
    return status, head, b"" if status in (101, 204) else await reader.read()


async def unchunked(reader):
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        assert await reader.readline() == b"\r\n"
    assert await reader.readline() == b"\r\n"
    return body


def ok(body, *headers):
    more = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), more, body)


def answering(data):
    """A server that answers each request without a body with these bytes, and its head appended as a header."""

    async def serve(reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(data(head) if callable(data) else data)
            await writer.drain()

    return serve


async def echo(reader, writer):
    """Bytes back until the end, then the end."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def resets(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) != b""
    except ConnectionResetError:
        return True
