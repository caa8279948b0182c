"""Connections from outside to what listens in a sandbox: a port on its loopback, or a unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cloche.channel.base import ByteStream
from cloche.guest_api import Guest
from cloche.model.errors import InvalidError, NotFoundError
from cloche.model.events import DEFAULT_PROJECT
from cloche.service.access import Access

#: servers that listen on "localhost" take one of the two, and not always the first
LOOPBACK = ("127.0.0.1", "::1")


class Dialing:
    def __init__(self, access: Access) -> None:
        self._access = access

    @asynccontextmanager
    async def open(
        self, ref: str, *, port: int | None = None, host: str | None = None, unix: str | None = None,
        project_id: str = DEFAULT_PROJECT,
    ) -> AsyncIterator[ByteStream]:  # fmt: skip
        """One connection, which counts as use of the sandbox until this is left. `host` None: its loopback. Raises
        NotFoundError when nobody listens there, InvalidError unless one of `port` and `unix` is given, WrongStateError
        unless it runs, SandboxDeadError, LimitHitError beyond 512 connections and requests."""
        if (port is None) == (unix is None):
            raise InvalidError("give either port or unix", field="port")
        async with self._access.guest(project_id, ref) as guest:
            stream = await _dialled(guest, port, (host,) if host else LOOPBACK, unix)
            try:
                yield stream
            finally:
                await stream.close()


async def _dialled(guest: Guest, port: int | None, hosts: tuple[str, ...], unix: str | None) -> ByteStream:
    if unix is not None:
        return await guest.dial(unix=unix)
    for host in hosts[:-1]:
        try:
            return await guest.dial(port, host=host)
        except NotFoundError:
            pass
    return await guest.dial(port, host=hosts[-1])
