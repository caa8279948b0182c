"""Connections into a sandbox through the API: an upgrade, raw bytes, half-close, and everything that ends one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import pytest

from cloche.channel import carrying
from cloche.channel.unix import UnixStream
from cloche.model.errors import NotFoundError
from tests.unit.api.harness import serve

pytestmark = pytest.mark.anyio
UPGRADE = ("Connection: Upgrade", "Upgrade: cloche-stream")


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


class Inside:
    """What listens in the sandbox: `dialled` puts the other end of each connection into `ends`."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.ends: asyncio.Queue[UnixStream] = asyncio.Queue()
        self.listens_on = "127.0.0.1"

    async def dial(self, port=None, *, host="127.0.0.1", unix=None):
        self.asked.append((port, host if unix is None else None, unix))
        if unix is None and host != self.listens_on:
            raise NotFoundError(f"nothing listens on {host}:{port}")
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        await self.ends.put(UnixStream(theirs))
        return UnixStream(ours)


@contextlib.asynccontextmanager
async def dialling(tmp_path, target="port=8000", headers=UPGRADE, behind=b""):
    """(client's reader, writer, what is inside, the served API)."""
    async with serve(tmp_path) as served:
        inside = Inside()
        served.services._guest.dial = inside.dial
        reader, writer = await asyncio.open_unix_connection(served.path)
        lines = "".join(f"{line}\r\n" for line in ("Host: cloche", "Content-Length: 0", *headers, ""))
        writer.write(f"POST /v1/sandboxes/box/dial?{target} HTTP/1.1\r\n{lines}".encode() + behind)
        try:
            yield reader, writer, inside, served
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def switched(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), await reader.read()
    assert b"cloche-api-version: 1\r\n" in head


async def refused(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split()[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))["error"]


async def test_bytes_pass_both_ways_and_directions_end_one_by_one(tmp_path):
    async with dialling(tmp_path) as (reader, writer, inside, _):
        await switched(reader)
        end = await inside.ends.get()
        writer.write(b"up")
        assert await end.read(100) == b"up"
        await end.write(b"down")
        assert await reader.readexactly(4) == b"down"
        writer.write_eof()
        assert await end.read(100) == b""
        await end.write(b"last")
        await end.write_eof()
        assert await reader.read() == b"last"
    assert inside.asked == [(8000, "127.0.0.1", None)]


async def test_a_server_that_finishes_first_still_hears_its_client(tmp_path):
    async with dialling(tmp_path) as (reader, writer, inside, _):
        await switched(reader)
        end = await inside.ends.get()
        await end.write_eof()
        assert await reader.read() == b""
        writer.write(b"still")
        assert await end.read(100) == b"still"


async def test_the_other_loopback_and_unix_sockets_are_found(tmp_path):
    async with dialling(tmp_path) as (reader, _, inside, served):
        await switched(reader)
        inside.listens_on = "::1"
        for host in (None, "localhost"):
            async with served.services.dialing.open("box", port=1, host=host):
                pass
        async with served.services.dialing.open("box", unix="/run/x.sock"):
            pass
    assert inside.asked[1:] == [*2 * [(1, "127.0.0.1", None), (1, "::1", None)], (None, None, "/run/x.sock")]


@pytest.mark.parametrize(("target", "headers", "code"), [
    ("port=8000", (), "invalid"), ("port=0", UPGRADE, "invalid"), ("", UPGRADE, "invalid"),
    ("port=1&unix=/x", UPGRADE, "invalid"), ("port=1&host=192.0.2.1", UPGRADE, "not_found"),
    ("port=1&other=2", UPGRADE, "invalid"),
])  # fmt: skip
async def test_refusals_are_answers(tmp_path, target, headers, code):
    async with dialling(tmp_path, target, headers) as (reader, _, _, _):
        _status, error = await refused(reader)
        assert error["code"] == code
        if headers:
            assert await reader.read() == b""


async def test_nothing_may_come_before_the_answer(tmp_path):
    async with dialling(tmp_path, behind=b"early") as (reader, _, inside, _):
        assert (await refused(reader))[1]["code"] == "invalid"
        assert (await (await inside.ends.get()).read(10)) == b""


async def test_a_client_that_vanishes_ends_the_connection_inside(tmp_path):
    async with dialling(tmp_path) as (reader, writer, inside, _):
        await switched(reader)
        end = await inside.ends.get()
        writer.transport.abort()
        assert await end.read(1) == b""
        with pytest.raises(ConnectionError):
            while True:
                await end.write(b"x" * 65536)


async def test_a_server_that_vanishes_ends_the_clients_connection(tmp_path):
    async with dialling(tmp_path) as (reader, writer, inside, _):
        await switched(reader)
        await (await inside.ends.get()).close()
        assert await reader.read() == b""
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()


async def test_a_half_closed_connection_on_which_nothing_moves_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(carrying, "HALF_CLOSED_SECONDS", 0.05)
    async with dialling(tmp_path) as (reader, writer, inside, _):
        await switched(reader)
        end = await inside.ends.get()
        writer.write_eof()
        assert await end.read(1) == b""
        assert await reader.read() == b""


async def test_a_slow_reader_holds_up_its_server_and_loses_nothing(tmp_path):
    piece, sent = b"x" * 65536, 0

    async def server(end):
        nonlocal sent
        for _ in range(200):
            await end.write(piece)
            sent += 1
        await end.write_eof()

    async with dialling(tmp_path) as (reader, _, inside, _):
        await switched(reader)
        sending = asyncio.create_task(server(await inside.ends.get()))
        await reader.readexactly(1)
        for _ in range(100):
            await asyncio.sleep(0)
        assert sent < 200
        assert len(await reader.read()) == 200 * len(piece) - 1
        await sending


async def test_a_node_that_leaves_ends_them(tmp_path):
    async with dialling(tmp_path) as (reader, _, inside, served):
        await switched(reader)
        end = await inside.ends.get()
        served.node.leaving.set()
        assert await reader.read() == b""
        assert await end.read(1) == b""
