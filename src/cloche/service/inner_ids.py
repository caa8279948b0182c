"""Ids of what is inside a sandbox, which people type: a whole one, a beginning that only one has, or one that nothing
has, and then what would find the right one."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cloche.model.errors import InvalidError, NotFoundError

WHOLE_ID = 28
MIN_PREFIX = 4
_MAX_ID = 64


@dataclass(frozen=True, slots=True)
class InnerIds:
    """`remedy` is what helps who named one that is not there; `{ref}` in it is the sandbox."""

    name: str
    plural: str
    prefix: str
    remedy: str

    def checked(self, given: str, ref: str) -> str:
        """`given`, if it can be an id at all. Raises NotFoundError."""
        if len(given) > _MAX_ID or not given.replace("_", "").isalnum() or not given.isascii():
            raise self.missing(given, ref)
        return given

    async def whole(self, given: str, ref: str, known: Callable[[], Awaitable[Iterable[str]]]) -> str:
        """Raises NotFoundError, and InvalidError for a prefix of several. A whole id is left to the guest."""
        if len(given) >= WHOLE_ID:
            return given
        found = [each for each in await known() if each.startswith(given)]
        if not found or len(given.removeprefix(self.prefix)) < MIN_PREFIX:
            raise self.missing(given, ref)
        if len(found) > 1:
            raise InvalidError(
                f"{given!r} could be any of {len(found)} {self.plural}",
                field=f"{self.name}_id",
                remedy="give more of the id",
                candidates=len(found),
            )
        return found[0]

    @contextmanager
    def remedied(self, ref: str) -> Iterator[None]:
        """The guest knows whether it is there, and the host what to do when it is not."""
        try:
            yield
        except NotFoundError as error:
            error.remedy = error.remedy or self._remedy(ref)
            raise

    def missing(self, given: str, ref: str) -> NotFoundError:
        message = f"there is no {self.name} {given[:_MAX_ID]!r} in this sandbox"
        return NotFoundError(message, remedy=self._remedy(ref))

    def _remedy(self, ref: str) -> str:
        return self.remedy.format(ref=shlex.quote(ref))


PROCESS = InnerIds("process", "processes", "p_", "cloche logs --json {ref}")
CONTEXT = InnerIds(
    "context", "contexts", "c_", "leave it out for the default one; Sandbox.from_id(…).contexts.list() has all of them"
)
EXECUTION = InnerIds("execution", "executions", "x_", "run the code again; it was forgotten, or never began")
