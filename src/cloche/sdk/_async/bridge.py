"""The few things that are written differently for the two halves. The twin is `_sync/bridge.py`, by hand."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from cloche.model.errors import ClocheError
from cloche.sdk.launch import ensure_node

if TYPE_CHECKING:
    from cloche.sdk.code import Result

T = TypeVar("T")
Callback = Callable[[bytes], Awaitable[None] | None]
TextCallback = Callable[[str], Awaitable[None] | None]
ResultCallback = Callable[["Result"], Awaitable[None] | None]
Chunks = AsyncIterable[bytes] | Iterable[bytes]

_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, Any]] = WeakKeyDictionary()


def shared() -> dict[Any, Any]:
    """What lives as long as the event loop: connections cannot be carried from one loop to another."""
    return _shared.setdefault(asyncio.get_running_loop(), {})


async def start_node(home: Path) -> Path:
    """The socket of the node of `home`, which is started when none answers. Raises NodeUnreachableError."""
    return await asyncio.to_thread(ensure_node, home)


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def call(callback: Callable[[T], Awaitable[None] | None], told: T) -> None:
    """A callback may be a coroutine function or not."""
    result = callback(told)
    if inspect.isawaitable(result):
        await result


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run what blocks without stopping the event loop."""
    return await asyncio.to_thread(function, *arguments)


async def chunks(source: Chunks) -> AsyncIterator[bytes]:
    """The pieces of either kind of iterable; a plain one is stepped in a thread, since it may read a disk."""
    if isinstance(source, AsyncIterable):
        async for chunk in source:
            yield chunk
        return
    iterator = iter(source)
    while (piece := await asyncio.to_thread(next, iterator, None)) is not None:
        yield piece


async def consume(function: Callable[[Any], T], source: AsyncIterator[bytes]) -> T:
    """Run `function(file)` in a thread, where `file.read(n)` takes from `source`."""
    loop = asyncio.get_running_loop()

    def pull() -> bytes:
        return asyncio.run_coroutine_threadsafe(_next(source), loop).result()

    return await asyncio.to_thread(function, _Reader(pull))


@contextlib.asynccontextmanager
async def background(work: Callable[[], Awaitable[None]] | None) -> AsyncIterator[None]:
    """Do `work` beside the body; what is left of it when the body ends is given up. Raises what it raised, unless
    the body raised first."""
    if work is None:
        yield
        return
    task = asyncio.ensure_future(work())
    try:
        yield
    except BaseException:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(result, ClocheError):
        raise result


class _Reader:
    """A file to read from, over a function that gives the next piece, empty at the end."""

    def __init__(self, pull: Callable[[], bytes]) -> None:
        self._pull = pull
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (piece := self._pull()):
            self._rest += piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


async def _next(source: AsyncIterator[bytes]) -> bytes:
    return await anext(source, b"")
