"""The sandboxes of one MCP server: made within its limit, found by id or name, kept alive by use, gone at its end.

Each carries a label with the server's own random value, so that also those whose creation nobody heard of are found."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Unpack

from cloche.mcp.settings import Settings
from cloche.model.errors import ClocheError, InvalidError, LimitHitError, NotFoundError, WrongStateError
from cloche.model.lifecycle import LIVING
from cloche.sdk._async.sandbox import AsyncSandbox
from cloche.sdk.options import SandboxOptions
from cloche.sdk.values import SandboxInfo

LABEL = "cloche/mcp-server"
#: the name under which a tool call may ask for the sandbox that it gets when it names none
DEFAULT = "default"
#: a prefix of an id must be longer than what all ids share
MIN_PREFIX = 6
MAX_REF = 200
REMEDY = "list_sandboxes shows those that exist; create_sandbox makes one; without sandbox_id the default one is used"
log = logging.getLogger("cloche.mcp")


class Sandboxes:
    """All calls raise ClocheError. None of them may be cancelled by an anyio scope (see `apart`)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._owner = secrets.token_hex(8)
        self._made: dict[str, AsyncSandbox] = {}
        self._ttl: dict[str, float] = {}
        self._until: dict[str, float] = {}
        self._used: dict[str, float] = {}
        self._users: Counter[str] = Counter()
        self._default: str | None = None
        self._tried = False
        self._making = asyncio.Lock()
        self._making_default = asyncio.Lock()

    @property
    def settings(self) -> Settings:
        return self._settings

    async def create(self, **options: Unpack[SandboxOptions]) -> AsyncSandbox:
        """Make one. Raises LimitHitError when this server has as many as it may."""
        ttl = options.get("ttl_seconds") or self._settings.sandbox_timeout_seconds
        wanted: SandboxOptions = {**options, "ttl_seconds": ttl, "labels": {LABEL: self._owner}}
        if not wanted.get("template"):
            wanted["template"] = self._settings.template
        if self._settings.net is not None:
            wanted["net"] = self._settings.net
        if self._settings.secrets:
            wanted["secrets"] = self._settings.secrets
        if options.get("name") == DEFAULT:
            raise InvalidError("the name default means the sandbox that is used when none is named", field="name")
        async with self._making:
            await self._check_limit()
            self._tried = True
            box = await _made_or_undone(wanted)
        self._made[box.id], self._ttl[box.id] = box, ttl
        self._until[box.id], self._used[box.id] = time.time() + ttl, time.time()
        return box

    @contextlib.asynccontextmanager
    async def using(self, ref: str | None, seconds: float = 0.0) -> AsyncIterator[tuple[AsyncSandbox, list[str]]]:
        """A sandbox for a call of at most so many seconds, which it will outlive, and notes for the caller.

        None: the default one, which is made when there is none."""
        box, notes = await self._default_for(seconds) if ref in (None, "", DEFAULT) else (await self._named(ref), [])
        if not notes:
            await self._keep_alive(box, seconds)
        self._users[box.id] += 1
        try:
            yield box, notes
        finally:
            self._users[box.id] -= 1
            self._used[box.id] = time.time()

    async def known(self, *, include_inactive: bool) -> list[SandboxInfo]:
        """Those that the tools can reach, oldest first; without the inactive only those that live."""
        labels = {LABEL: self._owner} if self._settings.scope == "own" else None
        return await AsyncSandbox.list(labels=labels, states=() if include_inactive else sorted(LIVING))

    def last_used(self, sandbox_id: str) -> float | None:
        """UTC seconds, of those that this server has used."""
        return self._used.get(sandbox_id)

    def is_default(self, sandbox_id: str) -> bool:
        return sandbox_id == self._default

    async def remove(self, ref: str, *, force: bool) -> str:
        """Take one away and say which. Raises WrongStateError without `force` when a call is under way in it, or when
        it lives and somebody else has made it."""
        box = await self._named(ref)
        if not force and self._users[box.id]:
            raise WrongStateError(f"a call is running in {box.id}", remedy="remove_sandbox with force=true ends it")
        try:
            await box.remove(force=force or box.id in self._made)
        finally:
            if force or not self._users[box.id]:
                self._forget(box.id)
        return box.id

    async def close(self) -> None:
        """Remove all that this server has made, unless its settings keep them."""
        if self._settings.keep or not self._tried:
            return
        own = await AsyncSandbox.list(labels={LABEL: self._owner})
        results = await asyncio.gather(*(_remove(info.id) for info in own), return_exceptions=True)
        for info, result in zip(own, results, strict=True):
            if isinstance(result, BaseException):
                log.warning("%s was not removed: %s", info.id, result)

    async def _default_for(self, seconds: float) -> tuple[AsyncSandbox, list[str]]:
        async with self._making_default:
            known = self._made.get(self._default or "")
            if known is not None:
                with contextlib.suppress(NotFoundError, WrongStateError):
                    await self._keep_alive(known, seconds, certainly=True)
                    return known, []
                self._forget(known.id)
            box = await self.create()
            self._default = box.id
            await self._keep_alive(box, seconds)
            lost = "the default sandbox had ended, so its files and variables are gone; " if known else ""
            return box, [f"{lost}a new default sandbox was made: {box.id}"]

    async def _named(self, ref: str | None) -> AsyncSandbox:
        text = (ref or "").strip()
        if text == DEFAULT and self._default:
            text = self._default
        if not text or len(text) > MAX_REF:
            raise InvalidError(f"sandbox_id must have 1 to {MAX_REF} characters", field="sandbox_id", remedy=REMEDY)
        found = [box for box in self._made.values() if text in (box.id, box.name)]
        found = found or [box for box in self._made.values() if len(text) >= MIN_PREFIX and box.id.startswith(text)]
        if len(found) == 1:
            return found[0]
        if self._settings.scope == "all":
            return await AsyncSandbox.from_id(text)
        raise NotFoundError(f"no sandbox {text!r} belongs to this server", remedy=REMEDY)

    async def _keep_alive(self, box: AsyncSandbox, seconds: float, *, certainly: bool = False) -> None:
        """Let it live for its time after a use of so many seconds. What moves the end by little is not asked for,
        unless the answer must show that it lives. Others' sandboxes keep the end that they have."""
        ttl = self._ttl.get(box.id)
        if ttl is None:
            return
        wanted = max(time.time() + seconds + ttl, self._until[box.id])
        if not certainly and wanted - self._until[box.id] < min(1.0, ttl / 10):
            return
        try:
            await box.extend(wanted - time.time())
        except (NotFoundError, WrongStateError) as error:
            self._forget_if_gone(box.id, error)
            raise _gone(box.id, error) from error
        self._until[box.id] = wanted

    def _forget_if_gone(self, sandbox_id: str, error: ClocheError) -> None:
        if isinstance(error, NotFoundError):
            self._forget(sandbox_id)

    def _forget(self, sandbox_id: str) -> None:
        tables: tuple[dict[str, Any], ...] = (self._made, self._ttl, self._until, self._used, self._users)
        for table in tables:
            table.pop(sandbox_id, None)
        if self._default == sandbox_id:
            self._default = None

    async def _check_limit(self) -> None:
        most = self._settings.max_sandboxes
        if len(self._made) < most:
            return
        alive = {info.id for info in await AsyncSandbox.list(labels={LABEL: self._owner})}
        for gone in set(self._made) - alive:
            self._forget(gone)
        if len(alive) >= most:
            raise LimitHitError(
                f"this server has {len(alive)} sandboxes, and MAX_SANDBOXES allows {most}",
                remedy="remove_sandbox takes one away; MAX_SANDBOXES is set where the server is configured",
                limit="MAX_SANDBOXES",
            )


def _gone(sandbox_id: str, error: ClocheError) -> ClocheError:
    if isinstance(error, NotFoundError):
        return NotFoundError(f"{sandbox_id} has ended: it was removed or not used for too long", remedy=REMEDY)
    return error


async def _made_or_undone(wanted: SandboxOptions) -> AsyncSandbox:
    """Make a sandbox. When the caller gives up meanwhile, what was made is removed: nobody would know of it."""
    making = asyncio.ensure_future(AsyncSandbox.create(**wanted))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        with contextlib.suppress(ClocheError):
            await (await making).remove()
        raise


async def _remove(sandbox_id: str) -> None:
    with contextlib.suppress(NotFoundError):
        box = await AsyncSandbox.from_id(sandbox_id)
        await box.remove()
