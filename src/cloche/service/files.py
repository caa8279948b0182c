"""Files of a running sandbox: a state check, a mark that it is in use, and the guest's answer as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from cloche.model.events import DEFAULT_PROJECT
from cloche.service.access import Access
from cloche.service.guests import GuestReply, forward

Body = AsyncIterator[bytes] | bytes | None


class FileService:
    def __init__(self, access: Access) -> None:
        self._access = access

    @asynccontextmanager
    async def forward(
        self, ref: str, method: str, rest: str = "", *,
        query: str = "", headers: Mapping[str, str] | None = None, body: Body = None, project_id: str = DEFAULT_PROJECT,
    ) -> AsyncIterator[GuestReply]:  # fmt: skip
        """`method /v1/files{rest}?{query}` on the guest, for example rest="/content", query="path=a%20b".
        Raises WrongStateError unless the sandbox runs. The guest's own 4xx answers come back as the reply."""
        target = f"/v1/files{rest}?{query}" if query else f"/v1/files{rest}"
        async with self._access.guest(project_id, ref) as guest:
            async with forward(guest, method, target.encode("ascii"), headers, body) as reply:
                yield reply
