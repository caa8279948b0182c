"""Processes of a running sandbox: a state check, a mark that it is in use, and the guest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote

from cloche.guest_api import Guest, text
from cloche.model.errors import NotFoundError
from cloche.model.events import DEFAULT_PROJECT
from cloche.model.process import ProcessInfo, ProcessSpec
from cloche.service.access import Access
from cloche.service.guests import GuestReply, forward
from cloche.service.inner_ids import PROCESS

Body = AsyncIterator[bytes] | bytes | None


class ProcessService:
    """`process_id` is a whole id or a unique prefix of one. All raise WrongStateError unless the sandbox runs,
    and SandboxDeadError when it ends meanwhile."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def start(self, ref: str, spec: ProcessSpec, *, project_id: str = DEFAULT_PROJECT) -> ProcessInfo:
        spec.check()
        async with self._access.guest(project_id, ref) as guest:
            return await guest.start_process(spec)

    async def list_for(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> list[ProcessInfo]:
        async with self._access.guest(project_id, ref) as guest:
            return await guest.list_processes()

    async def get(self, ref: str, process_id: str, *, project_id: str = DEFAULT_PROJECT) -> ProcessInfo:
        async with self._access.guest(project_id, ref) as guest:
            whole_id = await _whole_id(guest, process_id, ref)
            with PROCESS.remedied(ref):
                return await guest.process(whole_id)

    @asynccontextmanager
    async def follow(
        self, ref: str, spec: ProcessSpec, *, project_id: str = DEFAULT_PROJECT
    ) -> AsyncIterator[GuestReply]:
        """Start and stream: the reply's body is the guest's frames. Leaving ends the stream, not the process."""
        spec.check()
        headers = {"content-type": "application/json"}
        async with self._access.guest(project_id, ref) as guest:
            async with forward(guest, "POST", b"/v1/processes?follow=1", headers, text.encode(spec)) as reply:
                yield reply

    @asynccontextmanager
    async def forward(
        self, ref: str, method: str, process_id: str, rest: str = "", *,
        query: str = "", headers: Mapping[str, str] | None = None, body: Body = None, project_id: str = DEFAULT_PROJECT,
    ) -> AsyncIterator[GuestReply]:  # fmt: skip
        """`method /v1/processes/{process_id}{rest}?{query}` on the guest, for example rest="/output".
        The guest's own 4xx answers come back as the reply, unchanged, but for a process that is not there:
        NotFoundError."""
        async with self._access.guest(project_id, ref) as guest:
            path = f"/v1/processes/{quote(await _whole_id(guest, process_id, ref), safe='')}{rest}"
            target = f"{path}?{query}" if query else path
            async with forward(guest, method, target.encode("ascii"), headers, body) as reply:
                if reply.status == NotFoundError.http_status:
                    raise PROCESS.missing(process_id, ref)
                yield reply


async def _whole_id(guest: Guest, process_id: str, ref: str) -> str:
    async def known() -> list[str]:
        return [process.id for process in await guest.list_processes()]

    return await PROCESS.whole(process_id, ref, known)
