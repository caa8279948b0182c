"""A channel over one byte pipe, behind a listening unix socket that takes one connection at a time.

The pipe is connected at the first use. A connection is one epoch of the multiplexer: when it is lost, or the guest
breaks the rules, every stream of it is, and the next use makes a new one.

A guest may miss a hello: its kernel hears of hosts in another queue than from them, and QEMU may hold an answer back
until the connection is another one. So one that is not answered soon is followed by the next, on a new connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

from cloche.channel.mux_line import MuxLine
from cloche.channel.mux_stream import MuxStream
from cloche.channel.unix import connect, unreachable
from cloche.model.errors import SandboxDeadError, TimedOutError

ANSWER_SECONDS = 10.0
#: until a hello is said again, twice as long each time: a guest that is only slow answers the next one
HELLO_SECONDS = 2.0
BACKLOG = 64


class MuxChannel:
    """The way to a guest that speaks the multiplexer behind `path`, which may be longer than an address may be.

    `answer_seconds`: how long it may take until the guest answers a new connection; it may be booting, or busy.
    `backlog`: so many streams that the guest opened wait to be accepted; more are refused, and all of them before
    anybody has begun to accept."""

    def __init__(
        self, path: str | os.PathLike[str], *, answer_seconds: float = ANSWER_SECONDS, backlog: int = BACKLOG
    ) -> None:
        self._path, self._answer_seconds, self._backlog = Path(path), answer_seconds, backlog
        self._accepts = False
        self._line: MuxLine | None = None
        self._connecting: asyncio.Task[MuxLine] | None = None

    async def open(self) -> MuxStream:
        """Raises SandboxDeadError when nobody listens there, TimedOutError when the guest does not answer in time,
        LimitHitError when it has all the streams that it may have or this process no descriptor left."""
        line = await self._connected()
        while not await line.has_room():
            pass
        return line.open()

    async def accept(self) -> MuxStream:
        """The next stream that the guest opens. Raises ConnectionResetError when the connection is lost meanwhile: the
        next call makes a new one; else as `open`."""
        self._accepts = True
        if self._line:
            self._line.backlog = self._backlog
        line = await self._connected()
        return await line.accept()

    @property
    def direct_path(self) -> None:
        return None

    def moved(self, path: str | os.PathLike[str]) -> None:
        """The socket is there from now on; a connection that is open stays."""
        self._path = Path(path)

    async def close(self) -> None:
        """Close every stream that is open, and the connection; the sandbox goes on."""
        if self._connecting:
            self._connecting.cancel()
        if self._line:
            self._line.lose("the channel was closed")

    async def _connected(self) -> MuxLine:
        if self._line and not self._line.lost:
            return self._line
        if not self._connecting or self._connecting.done():
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(_was_seen)
        # one attempt serves all who wait, and goes on when one of them gives up
        await asyncio.wait([connecting := self._connecting])
        if connecting.cancelled():
            raise ConnectionResetError("the channel was closed")
        return connecting.result()

    async def _connect(self) -> MuxLine:
        try:
            async with asyncio.timeout(self._answer_seconds):
                line = await self._answered()
        except TimeoutError as error:
            raise TimedOutError(f"the guest did not answer on {self._path} in {self._answer_seconds:g} s") from error
        self._line = line
        if self._accepts:
            line.backlog = self._backlog
        return line

    async def _answered(self) -> MuxLine:
        patience = HELLO_SECONDS
        while True:
            line = MuxLine(await self._reach(), self._backlog if self._accepts else 0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._greet(line)
                return line
            patience *= 2

    async def _reach(self) -> socket.socket:
        try:
            return await connect(self._path)
        except OSError as error:
            raise unreachable(self._path, error) from error

    async def _greet(self, line: MuxLine) -> None:
        try:
            await line.established()
        except ConnectionError as error:
            line.lose(str(error))
            raise SandboxDeadError(f"nobody answers on {self._path}: {error}", reason="unreachable") from error
        except BaseException:
            line.lose("nobody waited for the answer")
            raise


def _was_seen(connecting: asyncio.Task[MuxLine]) -> None:
    """Nobody may be left who waits for it."""
    if not connecting.cancelled():
        connecting.exception()
