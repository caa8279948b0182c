"""Files of a running sandbox: a state check, a mark that it is in use, and the guest's answer as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager

from cloche.model.events import DEFAULT_PROJECT
from cloche.service.guests import GuestReply

Body = AsyncIterator[bytes] | bytes | None


class FileService:
    def forward(
        self, ref: str, method: str, rest: str = "", *,
        query: str = "", headers: Mapping[str, str] | None = None, body: Body = None, project_id: str = DEFAULT_PROJECT,
    ) -> AbstractAsyncContextManager[GuestReply]:
        """`method /v1/files{rest}?{query}` on the guest, for example rest="/content", query="path=a%20b".
        Raises WrongStateError unless the sandbox runs. The guest's own 4xx answers come back as the reply."""
        raise NotImplementedError
