"""Processes of a running sandbox: a state check, a mark that it is in use, and the guest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager

from cloche.model.events import DEFAULT_PROJECT
from cloche.model.process import ProcessInfo, ProcessSpec
from cloche.service.guests import GuestReply

Body = AsyncIterator[bytes] | bytes | None


class ProcessService:
    """`process_id` is a whole id or a unique prefix of one. All raise WrongStateError unless the sandbox runs,
    and SandboxDeadError when it ends meanwhile."""

    async def start(self, ref: str, spec: ProcessSpec, *, project_id: str = DEFAULT_PROJECT) -> ProcessInfo:
        raise NotImplementedError

    async def list_for(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> list[ProcessInfo]:
        raise NotImplementedError

    async def get(self, ref: str, process_id: str, *, project_id: str = DEFAULT_PROJECT) -> ProcessInfo:
        raise NotImplementedError

    def follow(
        self, ref: str, spec: ProcessSpec, *, project_id: str = DEFAULT_PROJECT
    ) -> AbstractAsyncContextManager[GuestReply]:
        """Start and stream: the reply's body is the guest's frames. Leaving ends the stream, not the process."""
        raise NotImplementedError

    def forward(
        self, ref: str, method: str, process_id: str, rest: str = "", *,
        query: str = "", headers: Mapping[str, str] | None = None, body: Body = None, project_id: str = DEFAULT_PROJECT,
    ) -> AbstractAsyncContextManager[GuestReply]:
        """`method /v1/processes/{process_id}{rest}?{query}` on the guest, for example rest="/output".
        The guest's own 4xx answers come back as the reply, unchanged."""
        raise NotImplementedError
