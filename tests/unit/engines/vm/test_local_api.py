"""Requests to a VMM that may have been taken over: whatever it answers is bounded and becomes one of our errors."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloche.engines.vm import local_api
from cloche.model.errors import EngineError, SandboxDeadError
from tests.contract import http

pytestmark = pytest.mark.anyio
HEAD = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def vmm(answer: bytes, *, closes: bool = True) -> AsyncIterator[Path]:
    directory, ended = Path(tempfile.mkdtemp(prefix="la")), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            await http.request(reader)
            writer.write(answer)
            await writer.drain()
            if not closes:
                await ended.wait()

    server = await asyncio.start_unix_server(serve, directory / "s")
    try:
        yield directory / "s"
    finally:
        ended.set()
        server.close()
        shutil.rmtree(directory)


async def test_an_answer_with_and_without_a_body() -> None:
    async with vmm(http.answer(200, "OK", {"a": 1}), closes=False) as path:
        assert await local_api.call(path, "GET", "/x") == (200, {"a": 1})
    async with vmm(http.answer(204, "No Content"), closes=False) as path:
        assert await local_api.call(path, "PUT", "/x", {"b": 2}) == (204, None)


@pytest.mark.parametrize(
    "answer",
    [
        b"hello\r\n\r\n",
        HEAD + b"\r\nwithout a length",
        HEAD + b"Content-Length: 3\r\n\r\n{{{",
        HEAD + b"Content-Length: 400000\r\n\r\n" + b" " * 400000,
        HEAD + b"X: " + b"y" * 100000,
    ],
)
async def test_what_is_no_answer(answer: bytes) -> None:
    async with vmm(answer) as path:
        with pytest.raises((EngineError, SandboxDeadError)):
            await local_api.call(path, "GET", "/x")


async def test_an_answer_that_is_cut() -> None:
    async with vmm(HEAD + b"Content-Length: 10\r\n\r\n{") as path:
        with pytest.raises(SandboxDeadError):
            await local_api.call(path, "GET", "/x")


async def test_an_answer_that_never_ends() -> None:
    async with vmm(HEAD + b"Content-Length: 10\r\n\r\n{", closes=False) as path:
        with pytest.raises(EngineError, match="did not answer"):
            await local_api.call(path, "GET", "/x", seconds=0.05)


async def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(SandboxDeadError):
        await local_api.call(tmp_path / "s", "GET", "/x")
