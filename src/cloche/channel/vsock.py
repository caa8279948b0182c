"""A channel through Firecracker's unix socket to a port on which the guest listens.

Every stream is one connection that begins with `CONNECT <port>` and is the guest's own after `OK <host port>`
(Firecracker 1.x, docs/vsock.md, "Host-Initiated Connections"). Where nobody listens Firecracker closes it."""

from __future__ import annotations

import asyncio
import os
import re
import time

from cloche.channel.unix import UnixChannel, UnixStream
from cloche.model.errors import SandboxDeadError

HANDSHAKE_SECONDS = 10.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 0.1
_ACCEPTED = re.compile(rb"OK \d{1,10}\n")
_LONGEST_ANSWER = len(b"OK 4294967295\n")


class VsockChannel:
    """The way to a guest that listens on `port`; `path`: the socket of its virtual machine. `answer_seconds`: how long
    it may take until the guest answers for the first time; it may be booting."""

    def __init__(self, path: str | os.PathLike[str], port: int, *, answer_seconds: float = 0.0) -> None:
        if not 0 <= port < 1 << 32:
            raise ValueError(f"no vsock port: {port}")
        self._connections = UnixChannel(path)
        self._port = port
        self._patience_seconds = answer_seconds

    async def open(self) -> UnixStream:
        """Raises SandboxDeadError when the machine or its guest does not answer."""
        deadline, pause = time.monotonic() + self._patience_seconds, _FIRST_PAUSE_SECONDS
        while True:
            try:
                stream = await self._open()
            except SandboxDeadError:
                if time.monotonic() >= deadline:
                    raise
            else:
                self._patience_seconds = 0.0
                return stream
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    @property
    def direct_path(self) -> None:
        return None

    def moved(self, path: str | os.PathLike[str]) -> None:
        """The socket is there from now on; connections that are open stay."""
        self._connections.moved(path)

    async def _open(self) -> UnixStream:
        stream = await self._connections.open()
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await self._shake_hands(stream)
        except (OSError, TimeoutError) as error:
            stream.close_now()
            raise SandboxDeadError(f"the guest does not listen on port {self._port}", reason="unreachable") from error
        except BaseException:
            stream.close_now()
            raise
        return stream

    async def close(self) -> None:
        await self._connections.close()

    async def _shake_hands(self, stream: UnixStream) -> None:
        await stream.write(b"CONNECT %d\n" % self._port)
        answer = b""
        # byte by byte: what follows the line is the guest's
        while not answer.endswith(b"\n") and len(answer) < _LONGEST_ANSWER:
            data = await stream.read(1)
            if not data:
                raise ConnectionResetError("closed")
            answer += data
        if not _ACCEPTED.fullmatch(answer):
            raise ConnectionResetError("not the answer of a vsock")
