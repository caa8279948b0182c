"""Connections from outside to what listens in a sandbox: a port on its loopback, or a unix socket."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

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
        """One connection, which counts as use of the sandbox until this is left. `host`: an address of its own; None
        or "localhost": its loopback. Raises NotFoundError when nobody listens there, InvalidError for any other host
        and unless one of `port` and `unix` is given, WrongStateError unless it runs, SandboxDeadError, LimitHitError
        beyond 512 connections and requests."""
        if (port is None) == (unix is None):
            raise InvalidError("give either port or unix", field="port")
        async with self._access.guest(project_id, ref) as guest:
            stream = await _dialled(guest, port, LOOPBACK if host in (None, "localhost") else (host,), unix)
            try:
                yield stream
            finally:
                await stream.close()


async def _dialled(guest: Guest, port: int | None, hosts: tuple[str, ...], unix: str | None) -> ByteStream:
    # the guest's own words are those of its system, and of the last of several addresses
    if unix is not None:
        try:
            return await guest.dial(unix=unix)
        except NotFoundError as error:
            raise _nobody_at_socket(unix) from error
    for host in hosts:
        with suppress(NotFoundError):
            return await guest.dial(port, host=host)
    raise _nobody_at_port(port, hosts)


def _nobody_at_port(port: int | None, hosts: tuple[str, ...]) -> NotFoundError:
    place = f"port {port}" if hosts == LOOPBACK else f"port {port} of {hosts[0]}"
    return NotFoundError(
        f"nothing listens on {place} in the sandbox",
        remedy="start the server inside, on 127.0.0.1 or on all addresses; cloche logs BOX shows what it said",
    )


def _nobody_at_socket(path: str) -> NotFoundError:
    return NotFoundError(
        f"nothing listens on the unix socket {path} in the sandbox",
        remedy=f"the path is one inside, and whole; look for it: cloche exec BOX -- ls -l {shlex.quote(path)}",
    )
