"""Work that is ended properly when its caller is cancelled.

The protocol's library cancels a call by scopes that fail every later await, so whatever the SDK must still do (kill the
command, interrupt the cell) would never happen. Here it runs in a task of its own, which is cancelled once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")
#: what the end of a cancelled call may take
UNWIND_SECONDS = 15.0


async def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. When the caller is cancelled, so is `work`, and its end is waited for."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task], timeout=UNWIND_SECONDS)
        raise
