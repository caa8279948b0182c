"""A unix socket served by uvicorn's HTTP protocol, without uvicorn's process: signals, idleness and the order of
leaving belong to the node."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import sys
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from cloche.api.replies import JSON
from cloche.channel.unix import UnixStream
from cloche.guest_api import text
from cloche.model.errors import InvalidError

KEEP_ALIVE_SECONDS = 75
BACKLOG = 512
#: of a request's scope, where the client proposes another protocol
TAKE_OVER = "cloche.take_over"
_CREDENTIALS = struct.Struct("3i")
log = logging.getLogger("cloche.api")


class Listener:
    """Serves `app` on sockets that listen already."""

    def __init__(self, app: ASGIApp) -> None:
        self._config = uvicorn.Config(
            app,
            http=LocalProtocol,
            lifespan="off",
            ws="none",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            proxy_headers=False,
        )
        self._state = ServerState()
        self._servers: list[asyncio.AbstractServer] = []

    async def start(self, listening: socket.socket) -> None:
        if not self._config.loaded:
            self._config.load()
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_unix_server(self._protocol, sock=listening, backlog=BACKLOG))

    async def stop(self, grace_seconds: float) -> None:
        """Accept nothing more, let requests finish for so long, then cut what is left."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._finish(grace_seconds)
        for connection in list(self._state.connections):
            if (transport := connection.transport) is not None:
                transport.close()

    async def _finish(self, grace_seconds: float) -> None:
        running = set(self._state.tasks)
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=grace_seconds)
        for task in late:
            task.cancel()
        if late:
            log.warning("requests_cut", extra={"fields": {"count": len(late)}})
            await asyncio.wait(late, timeout=grace_seconds)

    def _protocol(self) -> asyncio.Protocol:
        return LocalProtocol(self._config, self._state, {})


class LocalProtocol(HttpToolsProtocol):
    """One connection. The peer must be this user or root, whatever the mode of the socket file says."""

    _received = _leading = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = peer_uid(transport)
        if peer not in (os.geteuid(), 0):
            log.warning("peer_refused", extra={"fields": {"uid": peer}})
            transport.abort()
            return
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._received = data
        super().data_received(data)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.parser.should_upgrade():
            # the handler may take the connection, and until it has decided nothing may be read behind the request
            self.flow.pause_reading()
            cast(dict[str, Any], self.scope)[TAKE_OVER] = self._take_over
            self.cycle.keep_alive = False

    def _unsupported_upgrade_warning(self) -> None:
        """Called where the parser has stopped behind a request that proposes another protocol."""
        stopped = sys.exception()
        self._leading = self._received[stopped.args[0] :] if stopped is not None and stopped.args else b""

    def _take_over(self) -> UnixStream:
        """The connection without uvicorn, on a descriptor of its own."""
        if self._leading:
            raise InvalidError("bytes behind a request whose upgrade was not answered yet", field="upgrade")
        sock = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        sock.setblocking(False)
        self.cycle.disconnected = True
        self.connections.discard(self)
        self.transport.abort()
        return UnixStream(sock)

    def send_400_response(self, msg: str) -> None:
        """The answer to what is not HTTP: an error of the usual shape."""
        body = text.encode(InvalidError(msg).to_json())
        head = f"content-type: {JSON}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[400] + head.encode("ascii") + body)
        self.transport.close()


def peer_uid(transport: Any) -> int:
    """The user id at the other end of a unix socket; -1 when the kernel does not say."""
    try:
        connected = transport.get_extra_info("socket")
        said = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(said)[1])
    except (OSError, AttributeError):
        return -1
