"""The few things that are written differently for the two halves. The twin is `_async/bridge.py`, by hand."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cloche.model.errors import ClocheError
from cloche.sdk.launch import ensure_node

if TYPE_CHECKING:
    from cloche.sdk.code import Result

T = TypeVar("T")
Callback = Callable[[bytes], None]
TextCallback = Callable[[str], None]
ResultCallback = Callable[["Result"], None]
Chunks = Iterable[bytes]

_shared: dict[int, dict[Any, Any]] = {}


def shared() -> dict[Any, Any]:
    """What lives as long as the process: a child of fork must not write into its parent's connections."""
    return _shared.setdefault(os.getpid(), {})


def start_node(home: Path) -> Path:
    """The socket of the node of `home`, which is started when none answers. Raises NodeUnreachableError."""
    return ensure_node(home)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def call(callback: Callable[[T], None], told: T) -> None:
    callback(told)


def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    return function(*arguments)


def chunks(source: Chunks) -> Iterator[bytes]:
    yield from source


def consume(function: Callable[[Any], T], source: Iterator[bytes]) -> T:
    """Run `function(file)`, where `file.read(n)` takes from `source`."""
    return function(_Reader(source))


@contextlib.contextmanager
def background(work: Callable[[], None] | None) -> Iterator[None]:
    """Do `work` in a thread beside the body; what is left of it when the body ends is given up. Raises what it
    raised, unless the body raised first."""
    if work is None:
        yield
        return
    failed: list[ClocheError] = []
    # a daemon: an iterator of the caller may block for ever, and nothing may wait for it
    thread = threading.Thread(target=_attempt, args=(work, failed), daemon=True, name="cloche-stdin")
    thread.start()
    yield
    if failed:
        raise failed[0]


class _Reader:
    """A file to read from, over pieces."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (piece := next(self._source, b"")):
            self._rest += piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _attempt(work: Callable[[], None], failed: list[ClocheError]) -> None:
    try:
        work()
    except ClocheError as error:
        failed.append(error)
