"""Work that may never come back, such as a keyring that asks somebody who is not there for a password.

The threads that asyncio lends are few, everything else of the node needs them, and its end waits for them. These are
the work's own, and nobody waits for one that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
#: that hang at once
MAX_THREADS = 32

_free = threading.BoundedSemaphore(MAX_THREADS)


async def alone(work: Callable[[], T], timeout_seconds: float) -> T:
    """What `work` returns or raises. Raises TimeoutError; also at once, when too many hang already."""
    if not _free.acquire(blocking=False):
        raise TimeoutError
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            settle = _settling(done, work)
        finally:
            _free.release()
        with contextlib.suppress(RuntimeError):
            # the loop may be closed meanwhile
            loop.call_soon_threadsafe(settle)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError:
        _free.release()
        raise TimeoutError from None
    return await asyncio.wait_for(done, timeout_seconds)


def _settling(done: asyncio.Future[T], work: Callable[[], T]) -> Callable[[], None]:
    try:
        result = work()
    except Exception as error:
        failure = error
        return lambda: None if done.done() else done.set_exception(failure)
    return lambda: None if done.done() else done.set_result(result)
