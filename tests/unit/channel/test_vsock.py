"""The handshake with Firecracker, and answers that are none."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloche.channel import vsock
from cloche.channel.vsock import VsockChannel
from cloche.model.errors import SandboxDeadError

pytestmark = pytest.mark.anyio
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="vs"))
    server = await asyncio.start_unix_server(handler, directory / "v.sock")
    try:
        yield directory / "v.sock"
    finally:
        server.close()
        shutil.rmtree(directory)


def saying(answer: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"CONNECT 52\n"
        writer.write(answer)
        writer.close()

    return handler


async def test_what_follows_the_handshake_is_the_guests() -> None:
    async with listening(saying(b"OK 1073741824\nOK 7\nhello")) as path:
        stream = await VsockChannel(path, 52).open()
        assert await stream.read(100) == b"OK 7\nhello"
        await stream.close()


@pytest.mark.parametrize(
    "answer", [b"", b"OK", b"OK \n", b"ok 1\n", b"OK -1\n", b"OK 1 2\n", b"\n", b"OK 12345678901\n", b"x" * 10000]
)
async def test_an_answer_that_is_none(answer: bytes) -> None:
    async with listening(saying(answer)) as path:
        channel = VsockChannel(path, 52)
        with pytest.raises(SandboxDeadError, match="port 52"):
            await channel.open()
        await channel.close()


async def test_an_answer_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    released = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    monkeypatch.setattr(vsock, "HANDSHAKE_SECONDS", 0.01)
    async with listening(handler) as path:
        with pytest.raises(SandboxDeadError):
            await VsockChannel(path, 52).open()
        released.set()


async def test_a_machine_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(SandboxDeadError):
        await VsockChannel(tmp_path / "v.sock", 52).open()


@pytest.mark.parametrize("port", [-1, 1 << 32])
def test_a_port_that_is_none(port: int) -> None:
    with pytest.raises(ValueError):
        VsockChannel("/v.sock", port)
