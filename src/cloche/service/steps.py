"""Operations that a crash at any moment must not leave half done.

Before the first effect the store holds an intent; each effect has an undo on a stack; when anything fails the undos
run in reverse. What a killed node cannot undo itself, `recovery` does by the intent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from cloche.service.ports import Observer

T = TypeVar("T")
Undo = Callable[[], Awaitable[object]]
log = logging.getLogger("cloche.service")


class Steps:
    """`async with Steps("create", observer) as steps`. One intent for the whole operation is enough: undoing does not
    ask how far it came, as every undo may find nothing to do."""

    def __init__(self, operation: str, observer: Observer | None = None, stuck: Undo | None = None) -> None:
        """`stuck` is called when an undo has failed."""
        self._operation = operation
        self._observer = observer
        self._stuck = stuck
        self._undos: list[Undo] = []

    def undo(self, action: Undo) -> None:
        """Registered *before* its effect begins: a half-made effect is undone as well."""
        self._undos.append(action)

    async def reached(self, point: str) -> None:
        """A boundary between two steps; fault tests die here."""
        if self._observer is not None:
            await self._observer(f"{self._operation}.{point}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            await to_the_end(self._unwind(error))

    async def _unwind(self, cause: BaseException) -> None:
        """Stops at the first undo that fails: what lies below it is needed to try again."""
        while self._undos:
            try:
                await self._undos.pop()()
            except Exception as failure:
                log.exception("undoing %s failed", self._operation)
                cause.add_note(f"undoing it failed too: {failure}")
                if self._stuck is not None:
                    with contextlib.suppress(Exception):
                        await self._stuck()
                return


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Finish `work` even when the caller is cancelled meanwhile; the cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = not task.cancelled()
        except Exception:
            break
    if cancelled:
        with contextlib.suppress(Exception):
            task.result()
        raise asyncio.CancelledError
    return task.result()
