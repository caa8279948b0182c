"""The life of sandboxes: what the API offers about them, one method per operation."""

from __future__ import annotations

from cloche.model.events import DEFAULT_PROJECT, Event, SandboxPage, SandboxQuery, SandboxStats
from cloche.model.sandbox import Sandbox, SandboxSpec


class SandboxService:
    """`ref` is an id, a name, or a unique prefix of an id (at least 4 characters after `sb_`).
    All raise NotFoundError for an unknown `ref` and InvalidError for an ambiguous one."""

    async def create(
        self, spec: SandboxSpec, *, session_env: dict[str, str] | None = None, project_id: str = DEFAULT_PROJECT
    ) -> Sandbox:
        """A running sandbox. `session_env` is for this start only and never stored."""
        raise NotImplementedError

    async def get(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> Sandbox:
        raise NotImplementedError

    async def find(self, query: SandboxQuery | None = None, *, project_id: str = DEFAULT_PROJECT) -> SandboxPage:
        """Oldest first."""
        raise NotImplementedError

    async def start(
        self, ref: str, *, session_env: dict[str, str] | None = None, project_id: str = DEFAULT_PROJECT
    ) -> Sandbox:
        """Run a stopped sandbox again with the disk it had."""
        raise NotImplementedError

    async def stop(self, ref: str, *, grace_seconds: float = 5.0, project_id: str = DEFAULT_PROJECT) -> Sandbox:
        """SIGTERM to all, SIGKILL after the grace; the disk is kept."""
        raise NotImplementedError

    async def pause(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> Sandbox:
        raise NotImplementedError

    async def resume(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> Sandbox:
        raise NotImplementedError

    async def extend(self, ref: str, ttl_seconds: float | None, *, project_id: str = DEFAULT_PROJECT) -> Sandbox:
        """Expire `ttl_seconds` from now; None: never."""
        raise NotImplementedError

    async def remove(self, ref: str, *, force: bool = True, project_id: str = DEFAULT_PROJECT) -> None:
        """Take it away with its disk. Without `force` a living sandbox raises WrongStateError."""
        raise NotImplementedError

    async def stats(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> SandboxStats:
        raise NotImplementedError

    async def events(self, ref: str, *, project_id: str = DEFAULT_PROJECT) -> list[Event]:
        """Oldest first; also of a removed sandbox when `ref` is its whole id."""
        raise NotImplementedError
