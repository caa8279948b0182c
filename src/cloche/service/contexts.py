"""Code contexts of a running sandbox: a state check, a mark that it is in use, and the guest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import quote

from cloche.guest_api import ContextListing, Guest, text
from cloche.guest_api.transport import MAX_ERROR_BYTES, error_of
from cloche.model.code import CodeSpec, ContextInfo, ContextSpec
from cloche.model.errors import GuestError, InterpreterMissingError
from cloche.model.events import DEFAULT_PROJECT
from cloche.service.access import Access
from cloche.service.guests import GuestReply, forward
from cloche.service.inner_ids import CONTEXT, EXECUTION

_JSON = {"content-type": "application/json"}


class ContextService:
    """`context_id` is a whole id or a unique prefix of one. All raise WrongStateError unless the sandbox runs,
    and SandboxDeadError when it ends meanwhile."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def list_for(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> ContextListing:
        async with self._access.guest(project_id, ref) as guest:
            return await guest.list_contexts()

    async def create(self, ref: str, spec: ContextSpec, *, project_id: str = DEFAULT_PROJECT) -> ContextInfo:
        """Raises InterpreterMissingError, LimitHitError."""
        spec.check()
        async with self._access.guest(project_id, ref) as guest:
            with remedied():
                return await guest.create_context(spec)

    async def get(self, ref: str, context_id: str, *, project_id: str = DEFAULT_PROJECT) -> ContextInfo:
        async with self._one(project_id, ref, context_id) as (guest, whole_id):
            return await guest.context(whole_id)

    async def restart(self, ref: str, context_id: str, *, project_id: str = DEFAULT_PROJECT) -> ContextInfo:
        async with self._one(project_id, ref, context_id) as (guest, whole_id):
            with remedied():
                return await guest.restart_context(whole_id)

    async def interrupt(self, ref: str, context_id: str, *, project_id: str = DEFAULT_PROJECT) -> None:
        """Raises WrongStateError when nothing runs in it."""
        async with self._one(project_id, ref, context_id) as (guest, whole_id):
            await guest.interrupt_context(whole_id)

    async def remove(self, ref: str, context_id: str, *, project_id: str = DEFAULT_PROJECT) -> None:
        async with self._one(project_id, ref, context_id) as (guest, whole_id):
            await guest.remove_context(whole_id)

    @asynccontextmanager
    async def execute(
        self, ref: str, spec: CodeSpec, *, project_id: str = DEFAULT_PROJECT
    ) -> AsyncIterator[GuestReply]:
        """Run code and stream: the reply's body is the guest's events. Leaving does to the code what its
        `on_disconnect` says. Raises InterpreterMissingError, NotFoundError, WrongStateError (the context has ended)."""
        spec.check()
        async with self._access.guest(project_id, ref) as guest:
            async with forward(guest, "POST", b"/v1/executions", _JSON, text.encode(spec)) as reply:
                with CONTEXT.remedied(ref):
                    await _raise_refusal(reply)
                yield reply

    @asynccontextmanager
    async def events(
        self, ref: str, execution_id: str, *, after: int = 0, follow: bool = False, project_id: str = DEFAULT_PROJECT
    ) -> AsyncIterator[GuestReply]:
        """The events above `after`, as the guest sends them."""
        target = f"/v1/executions/{quote(execution_id, safe='')}?after={after}&follow={int(follow)}"
        async with self._access.guest(project_id, ref) as guest:
            async with forward(guest, "GET", target.encode("ascii"), None, None) as reply:
                with EXECUTION.remedied(ref):
                    await _raise_refusal(reply)
                yield reply

    async def interrupt_execution(self, ref: str, execution_id: str, *, project_id: str = DEFAULT_PROJECT) -> None:
        """Raises WrongStateError when it has ended."""
        async with self._access.guest(project_id, ref) as guest:
            with EXECUTION.remedied(ref):
                await guest.interrupt_execution(execution_id)

    @asynccontextmanager
    async def _one(self, project_id: str, ref: str, context_id: str) -> AsyncIterator[tuple[Guest, str]]:
        async with self._access.guest(project_id, ref) as guest:
            with CONTEXT.remedied(ref):
                yield guest, await _whole_id(guest, context_id, ref)


async def _whole_id(guest: Guest, context_id: str, ref: str) -> str:
    async def known() -> list[str]:
        return [context.id for context in (await guest.list_contexts()).contexts]

    return await CONTEXT.whole(context_id, ref, known)


@contextmanager
def remedied() -> Iterator[None]:
    """The guest knows which languages are there, and the host what to do about one that is not."""
    try:
        yield
    except InterpreterMissingError as error:
        error.remedy = _remedy(error.details.get("languages"))
        raise


async def _raise_refusal(reply: GuestReply) -> None:
    if reply.status == 200:
        return
    if reply.status < 300:
        raise GuestError(f"the guest answered {reply.status} where it streams events")
    with remedied():
        raise error_of(reply.status, await _small(reply))


async def _small(reply: GuestReply) -> bytes:
    content = await reply.read()
    if len(content) > MAX_ERROR_BYTES:
        raise GuestError(f"the guest's error is larger than {MAX_ERROR_BYTES} bytes")
    return content


def _remedy(languages: object) -> str:
    there = [str(name) for name in languages] if isinstance(languages, list) else []
    if not there:
        return "make the sandbox from an image with python3, node or bash in it"
    return f"use a language that this image has ({', '.join(there)}), or an image that has the interpreter"
