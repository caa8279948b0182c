"""Standard input and output as the protocol's own: nobody else reads the one or writes the other, and a wait for
either can be given up.

The library's own stdio waits in threads that hold up cancellation: a SIGTERM would wait for the next request."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, cast

import anyio
import anyio.to_thread
from mcp.server.stdio import stdio_server

#: a request that is larger is dropped; the largest code and file contents are far below
MAX_LINE_BYTES = 64 << 20


@contextlib.asynccontextmanager
async def streams() -> AsyncIterator[tuple[Any, Any]]:
    """The protocol's streams. From now on descriptor 0 is empty and what is printed to descriptor 1 goes to stderr."""
    source, sink = _claim()
    async with stdio_server(cast(Any, _Requests(source)), cast(Any, _Answers(sink))) as pair:
        yield pair


def repaired(line: str) -> str:
    """A request whose JSON escapes a lone surrogate (half an emoji), which the library would drop unanswered."""
    if "\\ud" not in line and "\\uD" not in line:
        return line
    try:
        return json.dumps(json.loads(line), ensure_ascii=False).encode("utf-8", "replace").decode()
    except (ValueError, RecursionError):
        return line


class _Requests:
    """Lines of text, as the library reads them."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "rb")

    def __aiter__(self) -> _Requests:
        return self

    async def __anext__(self) -> str:
        line: bytes = await anyio.to_thread.run_sync(self._file.readline, MAX_LINE_BYTES, abandon_on_cancel=True)
        if not line:
            raise StopAsyncIteration
        return repaired(line.decode("utf-8", "replace"))


class _Answers:
    """A file to write text to, as the library writes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, text: str) -> None:
        await anyio.to_thread.run_sync(_write_all, self._descriptor, text.encode(), abandon_on_cancel=True)

    async def flush(self) -> None:
        pass


def _claim() -> tuple[int, int]:
    sys.stdout.flush()
    source, sink = os.dup(0), os.dup(1)
    os.set_blocking(source, True)
    os.set_blocking(sink, True)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
