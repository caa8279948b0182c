"""Calls of the guest's wire for code contexts: interpreters that keep their state, and what runs in them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec

from cloche.guest_api import bounds, text
from cloche.guest_api.events import CONTEXT_ID, EXECUTION_ID, EventDecoder
from cloche.guest_api.transport import Transport, body_headers, chunks_of, segment, target
from cloche.model.code import CodeEvent, CodeSpec, ContextInfo, ContextSpec
from cloche.model.errors import NotFoundError

#: an interpreter starts in a tenth of a second; on a machine that swaps it may take long
START_SECONDS = 60.0
MAX_LISTED = 4096
MAX_LANGUAGES = 64
MAX_LANGUAGE_CHARS = 64
MAX_PATH_CHARS = 64 << 10
MAX_NAME_CHARS = 4096


class ContextListing(msgspec.Struct, frozen=True, kw_only=True):
    """Oldest first. `languages`: those whose interpreter the image has."""

    contexts: list[ContextInfo]
    languages: list[str]


class ContextCalls(Transport):
    async def list_contexts(self) -> ContextListing:
        """Every context that the guest remembers."""
        return listing(await self._ask(ContextListing, "GET", b"/v1/contexts"))

    async def create_context(self, spec: ContextSpec) -> ContextInfo:
        """A context whose interpreter is ready. Raises InterpreterMissingError, LimitHitError."""
        made = await self._ask(ContextInfo, "POST", b"/v1/contexts", spec, timeout_seconds=START_SECONDS)
        return context(made)

    async def context(self, context_id: str) -> ContextInfo:
        """Raises NotFoundError."""
        return context(await self._ask(ContextInfo, "GET", _context(context_id)), context_id)

    async def restart_context(self, context_id: str) -> ContextInfo:
        """A new interpreter under the same id; what runs or waits in the old one ends with `context_ended`."""
        path = _context(context_id, "/restart")
        return context(await self._ask(ContextInfo, "POST", path, timeout_seconds=START_SECONDS), context_id)

    async def interrupt_context(self, context_id: str) -> None:
        """Raises WrongStateError when nothing runs in it."""
        await self._call("POST", _context(context_id, "/interrupt"))

    async def remove_context(self, context_id: str) -> None:
        """Kill it with every process of its session, and forget it."""
        await self._call("DELETE", _context(context_id))

    @contextlib.asynccontextmanager
    async def execute(self, spec: CodeSpec) -> AsyncIterator[AsyncIterator[CodeEvent]]:
        """Run code and follow: `async with guest.execute(spec) as events`. What leaving does to the code is up to
        its `on_disconnect`. Raises InterpreterMissingError, NotFoundError (no such context), WrongStateError (it has
        ended)."""
        content = text.encode(spec)
        headers = [(b"Content-Type", b"application/json"), *body_headers(content)]
        async with self._stream("POST", b"/v1/executions", headers, content) as response:
            yield _events(chunks_of(response), EventDecoder(), follow=True)

    @contextlib.asynccontextmanager
    async def execution(
        self, execution_id: str, after: int = 0, follow: bool = False
    ) -> AsyncIterator[AsyncIterator[CodeEvent]]:
        """The events above `after`; without `follow` those that are there now. Raises NotFoundError."""
        asked = target(_execution(execution_id).decode(), {"after": after, "follow": follow})
        async with self._stream("GET", asked) as response:
            yield _events(chunks_of(response), EventDecoder(after=after), follow=follow)

    async def interrupt_execution(self, execution_id: str) -> None:
        """Interrupt it, or take it out of the queue. Raises WrongStateError when it has ended."""
        await self._call("POST", _execution(execution_id, "/interrupt"))


def context(info: ContextInfo, context_id: str | None = None) -> ContextInfo:
    """Raise GuestError unless the information is possible, and of the context that was asked for."""
    bounds.require(bool(CONTEXT_ID.fullmatch(info.id)), "context id")
    bounds.require(context_id is None or info.id == context_id, "another context's id")
    bounds.require(0 <= info.pid <= 1 << 31, "pid")
    bounds.require(0 <= info.created_at <= bounds.MAX_TIME, "created_at")
    bounds.require(0 <= info.executions <= bounds.MAX_INTEGER, "executions")
    bounds.require(0 <= info.queued <= bounds.MAX_INTEGER, "queued")
    for path in (info.cwd, info.interpreter):
        bounds.require(len(path) <= MAX_PATH_CHARS, "cwd or interpreter")
    for name in (info.user, info.version):
        bounds.require(len(name) <= MAX_NAME_CHARS, "user or version")
    bounds.require(info.execution_id is None or bool(EXECUTION_ID.fullmatch(info.execution_id)), "execution id")
    return info


def listing(answer: ContextListing) -> ContextListing:
    bounds.require(len(answer.contexts) <= MAX_LISTED, "number of contexts")
    bounds.require(len(answer.languages) <= MAX_LANGUAGES, "number of languages")
    bounds.require(all(len(name) <= MAX_LANGUAGE_CHARS for name in answer.languages), "a language's name")
    for info in answer.contexts:
        context(info)
    return answer


def _context(context_id: str, rest: str = "") -> bytes:
    return f"/v1/contexts/{segment(context_id)}{rest}".encode("ascii")


def _execution(execution_id: str, rest: str = "") -> bytes:
    return f"/v1/executions/{segment(execution_id)}{rest}".encode("ascii")


async def _events(chunks: AsyncIterator[bytes], decoder: EventDecoder, *, follow: bool) -> AsyncIterator[CodeEvent]:
    async for chunk in chunks:
        for event in decoder.feed(chunk):
            yield event
    decoder.finish()
    if follow and not decoder.ended:
        raise NotFoundError("the execution was forgotten while it was followed")
