"""What the service asks of its surroundings, so that it imports no engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from cloche.engines.base import Engine
from cloche.model.sandbox import Isolation

#: called at every boundary of an operation with its name ("create.row_written"); fault tests die in it
Observer = Callable[[str], Awaitable[None]]


class Engines(Protocol):
    """The registry of engines, as far as the service needs it."""

    def get(self, name: str) -> Engine:
        """Raises InvalidError for a name that is not known."""

    async def choose(self, engine: str, isolation: Isolation | None) -> Engine:
        """ "auto" takes the strongest that works here; raises UnavailableError, never weakens silently."""

    def names(self) -> list[str]: ...
