# Made from ../_async/dialing.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""Connections from this program into a sandbox, and local ports that lead to it."""

from __future__ import annotations

from cloche.model.errors import InvalidError
from cloche.sdk._sync import forwarding
from cloche.sdk._sync.forwarding import Forward
from cloche.sdk._sync.handle import Handle
from cloche.sdk._sync.tunnel import Tunnel
from cloche.sdk.listening import listen
from cloche.sdk.wire import Query


class Dialing(Handle):
    """The part of a sandbox that is what listens in it. The sandbox needs no network for any of this."""

    def dial(self, port: int | None = None, *, host: str | None = None, unix: str | None = None) -> Tunnel:
        """A connection to a port on its loopback (or on `host`, an address of the sandbox's own), or to the unix socket
        at the path `unix` inside. Raises NotFoundError when nobody listens there, InvalidError for another host: what
        is outside is not reached like this."""
        return self._transport.upgrade(
            f"{self._path}/dial", query=_place(port, host, unix), protocol=forwarding.PROTOCOL
        )

    def forward(
        self, port: int | None = None, *, host: str | None = None, unix: str | None = None,
        local_port: int = 0, local_host: str = "127.0.0.1", local_unix: str | None = None,
    ) -> Forward:  # fmt: skip
        """Listen on this machine, at `local_port` (0: any that is free) or the unix socket `local_unix`, and carry each
        connection to what `dial` would reach. Until it is closed, best by `with`. Raises UnavailableError when the
        place is taken."""
        place = _place(port, host, unix)
        listening = listen(local_host, local_port, local_unix)
        return Forward(self._transport, f"{self._path}/dial", place, listening)


def _place(port: int | None, host: str | None, unix: str | None) -> Query:
    if (port is None) == (unix is None):
        raise InvalidError("give either a port or a unix socket", field="port")
    return {"port": port, "host": host, "unix": unix}
