"""Streams through the API: clients that leave, guests that lie, bodies that are large."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cloche.api import server
from cloche.api.files import line_inspector
from cloche.api.processes import frame_inspector
from cloche.guest_api.frames import STDOUT, Frame, encode
from cloche.model.errors import GuestError
from cloche.model.file import FileInfo
from tests.unit.api.harness import Served, serve

BOX = "/v1/sandboxes/box"
Scene = Callable[[Served], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scene], None]:
    async def scene_in_node(scene: Scene) -> None:
        async with serve(tmp_path) as served:
            async with asyncio.timeout(60):
                await scene(served)

    return lambda scene: uvloop.run(scene_in_node(scene))


async def connect(node: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(str(node.path))


async def send_head(writer: asyncio.StreamWriter, method: str, target: str, *headers: str) -> None:
    writer.write("\r\n".join([f"{method} {target} HTTP/1.1", "Host: node", *headers, "", ""]).encode())
    await writer.drain()


def test_a_client_that_leaves_ends_only_the_stream(play: Any) -> None:
    async def scene(node: Served) -> None:
        reader, writer = await connect(node)
        body = b'{"argv": ["yes"]}'
        await send_head(writer, "POST", f"{BOX}/processes?follow=1", f"Content-Length: {len(body)}")
        writer.write(body)
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(200_000)
        assert node.services.open_exchanges == 1
        writer.transport.abort()
        await node.counter.until(0)
        assert node.services.open_exchanges == 0
        process = (await node.ask("GET", f"{BOX}/processes"))[1]["processes"][0]
        assert process["state"] == "running"
        assert process["stdout_bytes"] >= 100_000
        await node.ask("DELETE", f"{BOX}/processes/{process['id']}")

    play(scene)


def test_a_client_that_leaves_while_it_waits_frees_the_guest(play: Any) -> None:
    async def scene(node: Served) -> None:
        process = (await node.ask("POST", f"{BOX}/processes", {"argv": ["sleep", "1000"]}))[1]
        _, writer = await connect(node)
        await send_head(writer, "GET", f"{BOX}/processes/{process['id']}/wait?timeout_seconds=1000")
        await node.counter.until(1)
        writer.transport.abort()
        await node.counter.until(0)
        await node.ask("DELETE", f"{BOX}/processes/{process['id']}")

    play(scene)


def test_an_upload_that_breaks_off_leaves_nothing(play: Any) -> None:
    async def scene(node: Served) -> None:
        _, writer = await connect(node)
        await send_head(writer, "PUT", f"{BOX}/files/content?path=half", "Content-Length: 1000000")
        writer.write(b"x" * 500_000)
        await writer.drain()
        writer.transport.abort()
        await node.counter.until(0)
        assert (await node.ask("GET", f"{BOX}/files/stat?path=half"))[0] == 404

    play(scene)


def test_streams_end_when_the_node_leaves(play: Any) -> None:
    async def scene(node: Served) -> None:
        reader, writer = await connect(node)
        await send_head(writer, "GET", "/v1/node/logs?follow=1")
        await reader.readuntil(b'{"event":"one"}\n')
        node.node.leaving.set()
        await node.counter.until(0)
        writer.close()

    play(scene)


def test_a_reader_that_stops_reading_holds_the_writer(play: Any) -> None:
    """Backpressure from end to end: what the process wrote but nobody read stays with the guest."""

    async def scene(node: Served) -> None:
        reader, writer = await connect(node)
        body = b'{"argv": ["yes"]}'
        await send_head(writer, "POST", f"{BOX}/processes?follow=1", f"Content-Length: {len(body)}")
        writer.write(body)
        await reader.readuntil(b"\r\n\r\n")
        # other requests are served while the stream stands still
        for _ in range(50):
            assert (await node.ask("GET", "/v1/health"))[0] == 200
        writer.transport.abort()
        await node.counter.until(0)
        process = (await node.ask("GET", f"{BOX}/processes"))[1]["processes"][0]
        await node.ask("DELETE", f"{BOX}/processes/{process['id']}")

    play(scene)


class Endless:
    """A guest's answer of any size that costs no memory itself."""

    status = 200

    def __init__(self, total: int, chunk: bytes = b"x" * 65536, length: str | None = None) -> None:
        self._total, self._chunk, self._length = total, chunk, length

    @property
    def headers(self) -> dict[str, str]:
        return {"content-length": self._length} if self._length else {}

    async def stream(self) -> AsyncIterator[bytes]:
        for _ in range(self._total // len(self._chunk)):
            yield self._chunk


def answering(node: Served, reply: Any, swallow: bool = False) -> None:
    @contextlib.asynccontextmanager
    async def forward(*_: Any, body: Any = None, **__: Any) -> AsyncIterator[Any]:
        if swallow and body is not None:
            node.services.swallowed = sum([len(chunk) async for chunk in body])
        yield reply

    node.services.forward = forward  # type: ignore[method-assign]


def test_large_bodies_are_flat_in_memory(play: Any) -> None:
    total = 256 << 20

    async def scene(node: Served) -> None:
        answering(node, Endless(total))
        reader, writer = await connect(node)
        tracemalloc.start()
        try:
            await send_head(writer, "GET", f"{BOX}/files/content?path=big")
            seen = 0
            while seen < total:
                seen += len(await reader.read(1 << 20))
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()
            writer.close()

    play(scene)


def test_large_uploads_are_flat_in_memory(play: Any) -> None:
    total = 128 << 20

    class Stored:
        status, headers = 200, {}

        async def read(self) -> bytes:
            return (b'{"path":"/a","name":"a","type":"file","size":1,"mode":420,"uid":1000,"gid":1000,'
                    b'"modified_at":1.0}')  # fmt: skip

    async def scene(node: Served) -> None:
        answering(node, Stored(), swallow=True)
        reader, writer = await connect(node)
        tracemalloc.start()
        try:
            await send_head(writer, "PUT", f"{BOX}/files/content?path=a", f"Content-Length: {total}")
            for _ in range(total >> 16):
                writer.write(b"x" * 65536)
                await writer.drain()
            assert b"200" in await reader.readline()
            assert node.services.swallowed == total  # type: ignore[attr-defined]
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()
            writer.close()

    play(scene)


@pytest.mark.parametrize(
    "bad",
    [
        b"\x09" + bytes(15),
        struct.pack(">B3sIQ", STDOUT, b"\0\0\0", 1 << 30, 0),
        encode(Frame(STDOUT, 5, b"not from the beginning")),
        encode(Frame(STDOUT, 0, b"ab")) + encode(Frame(STDOUT, 1, b"backwards")),
        struct.pack(">B3sIQ", 1, b"\0\0\0", 2, 0) + b"{}",
    ],
    ids=["kind", "length", "offset", "backwards", "no process"],
)
def test_frames_that_the_wire_forbids_cut_the_stream(play: Any, bad: bytes) -> None:
    async def scene(node: Served) -> None:
        answering(node, Endless(len(bad), bad))
        reader, writer = await connect(node)
        await send_head(writer, "GET", f"{BOX}/processes/p_1/output?follow=1")
        received = await reader.read()
        assert b" 200 " in received
        assert not received.endswith(b"0\r\n\r\n"), "the stream must not look complete"
        assert bad not in received
        writer.close()

    play(scene)


def test_headers_of_the_guest_do_not_pass(play: Any) -> None:
    class Forger(Endless):
        headers = {"content-type": "a\r\nSet-Cookie: x", "set-cookie": "x", "cloche-version": "9"}

    async def scene(node: Served) -> None:
        answering(node, Forger(65536))
        assert (await node.ask("GET", f"{BOX}/files/content?path=a"))[0] == 200
        assert "set-cookie" not in node.headers
        assert node.headers["cloche-version"] != "9"
        assert "content-type" not in node.headers

    play(scene)


@pytest.mark.parametrize("status", [99, 101, 700])
def test_an_impossible_status_of_the_guest_is_its_fault(play: Any, status: int) -> None:
    class Odd(Endless):
        pass

    async def scene(node: Served) -> None:
        Odd.status = status
        answering(node, Odd(0))
        answer, body = await node.ask("GET", f"{BOX}/files/content?path=a")
        assert (answer, body["error"]["code"]) == (502, "guest_error")

    play(scene)


def test_a_crash_is_an_error_body_without_its_text(play: Any) -> None:
    async def scene(node: Served) -> None:
        async def crash(*_: Any, **__: Any) -> None:
            raise RuntimeError("secret text")

        node.services.stats = crash  # type: ignore[method-assign, assignment]
        status, body = await node.ask("GET", f"{BOX}/stats")
        assert (status, body["error"]["code"]) == (500, "internal")
        assert "secret" not in str(body)
        assert body["error"]["details"]["request"] == node.headers["cloche-request-id"]

    play(scene)


def test_what_is_not_http_gets_an_error_body(play: Any) -> None:
    async def scene(node: Served) -> None:
        reader, writer = await connect(node)
        writer.write(b"\x16\x03\x01\x02\x00\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400")
        assert b'"code":"invalid"' in answer
        writer.close()

    play(scene)


def test_another_user_is_cut_off_before_a_request(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "peer_uid", lambda transport: 12345)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    async def scene(node: Served) -> None:
        reader, writer = await connect(node)
        with contextlib.suppress(ConnectionError):
            await send_head(writer, "GET", "/v1/health")
            assert await reader.read() == b""
        writer.close()

    play(scene)


def test_the_peer_is_the_one_that_the_kernel_names() -> None:
    class Transport:
        def __init__(self, connected: socket.socket) -> None:
            self._connected = connected

        def get_extra_info(self, name: str) -> socket.socket:
            return self._connected

    one, other = socket.socketpair()
    with one, other:
        assert server.peer_uid(Transport(one)) == os.geteuid()
    assert server.peer_uid(Transport(one)) == -1


def halves(data: bytes) -> Iterator[bytes]:
    yield from (data[at : at + 7] for at in range(0, len(data), 7))


def test_lines_are_checked_across_chunks() -> None:
    line = (b'{"path":"/a","name":"a","type":"file","size":1,"mode":420,"uid":1000,"gid":1000,'
            b'"modified_at":1.0}\n')  # fmt: skip
    inspect = line_inspector(FileInfo)
    for chunk in halves(line * 3):
        inspect(chunk)
    inspect(b"")
    for bad in (b"{}\n", line.replace(b'"name":"a"', b'"name":"../a"'), b"x" * (2 << 20)):
        with pytest.raises(GuestError):
            line_inspector(FileInfo)(bad)
    cut = line_inspector(FileInfo)
    cut(line[:10])
    with pytest.raises(GuestError):
        cut(b"")


def test_frames_are_checked_across_chunks() -> None:
    inspect = frame_inspector(0, 0)
    for chunk in halves(encode(Frame(STDOUT, 0, b"hello")) + encode(Frame(STDOUT, 5, b"you"))):
        inspect(chunk)
    inspect(b"")
    inspect(encode(Frame(STDOUT, 8, b"x"))[:-1])
    with pytest.raises(GuestError):
        inspect(b"")


def test_a_request_that_is_cut_by_the_leaving_node_is_told_so(tmp_path: Path) -> None:
    async def scene() -> bytes:
        async with serve(tmp_path) as node:
            process = (await node.ask("POST", f"{BOX}/processes", {"argv": ["sleep", "1000"]}))[1]
            reader, writer = await connect(node)
            await send_head(writer, "GET", f"{BOX}/processes/{process['id']}/wait?timeout_seconds=1000")
            await node.counter.until(1)
            await node.listener.stop(0.01)
            answer = await reader.read()
            writer.close()
            return answer

    answer = uvloop.run(scene())
    assert answer.startswith(b"HTTP/1.1 503")
    assert b'"code":"node_unreachable"' in answer
