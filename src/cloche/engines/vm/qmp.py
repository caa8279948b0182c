"""QEMU's machine protocol, as much as a machine needs: one connection, one command at a time.

Source: docs/interop/qmp-spec.rst of QEMU 10. QEMU runs beside code that nobody has reviewed and may have been taken
over: what it says is bounded in size and time, and nothing of it is a path or a command here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from cloche.channel.unix import address_of
from cloche.model.errors import EngineError

MAX_LINE_BYTES = 1 << 20
#: in answer to one command, with all events on the way
MAX_SAID_BYTES = 4 << 20
READ_BYTES = 16 << 10
MAX_EVENTS = 256
ANSWER_SECONDS = 30.0
CONNECT_SECONDS = 10.0
_WORD = re.compile(r"[a-z-]{1,32}")


class Qmp:
    """`async with await Qmp.connect(path) as qmp`. QEMU serves one connection at a time: who has it keeps it short."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._begun = bytearray()
        self._said_bytes = 0
        self.events: list[str] = []

    @classmethod
    async def connect(cls, path: Path) -> Self:
        """Raises EngineError when QEMU does not answer."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                with address_of(path) as address:
                    await asyncio.get_running_loop().sock_connect(sock, address)
                qmp = cls(sock)
                await qmp._message()
                await qmp.execute("qmp_capabilities")
        except (OSError, TimeoutError) as error:
            sock.close()
            raise EngineError(f"QEMU does not answer: {str(error) or 'it says nothing'}", stage="qmp") from error
        except BaseException:
            sock.close()
            raise
        return qmp

    async def execute(self, command: str, /, *, fds: Sequence[int] = (), **arguments: Any) -> Any:
        """What QEMU returns. `fds` go with the command. Raises EngineError with QEMU's words when it refuses."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._send(command, arguments, fds)
                return await self._answer(command)
        except (OSError, TimeoutError) as error:
            raise EngineError(f"QEMU does not answer {command}: {str(error) or 'too late'}", stage="qmp") from error

    async def status(self) -> str:
        """ "running", "paused", and some more. Raises EngineError."""
        answer = await self.execute("query-status")
        found = answer.get("status") if isinstance(answer, dict) else None
        if not isinstance(found, str) or not _WORD.fullmatch(found):
            raise EngineError("QEMU does not say whether its machine runs", stage="qmp")
        return found

    async def event(self, name: str, seconds: float) -> None:
        """Return when it has happened on this connection. Raises EngineError when it does not in time."""
        try:
            async with asyncio.timeout(seconds):
                while name not in self.events:
                    await self._message()
        except (OSError, TimeoutError) as error:
            raise EngineError(f"QEMU gave up before {name}: {str(error) or 'too late'}", stage="qmp") from error

    async def _send(self, command: str, arguments: dict[str, Any], fds: Sequence[int]) -> None:
        self._said_bytes = 0
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        data = json.dumps({"execute": command, "arguments": named}).encode()
        if fds:
            # descriptors belong to the first byte; the rest of so short a message always fits
            socket.send_fds(self._sock, [data], list(fds))
        else:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def _answer(self, command: str) -> Any:
        while True:
            message = await self._message()
            if "return" in message:
                return message["return"]
            if "error" in message:
                said = str(message["error"].get("desc", message["error"]))[:500]
                raise EngineError(f"QEMU refused {command}: {said}", stage="qmp", command=command)

    async def _message(self) -> dict[str, Any]:
        """The next greeting, answer or event; events are kept by name on the way."""
        seen = 0
        while (end := self._begun.find(b"\n", seen)) < 0:
            seen = len(self._begun)
            if seen > MAX_LINE_BYTES:
                raise ConnectionResetError("it says too much")
            self._begun += await self._piece()
        line = bytes(self._begun[:end])
        del self._begun[: end + 1]
        return self._noted(_parsed(line))

    async def _piece(self) -> bytes:
        # what is there already comes without waiting: who never stops talking would keep the loop from everybody else
        await asyncio.sleep(0)
        piece = await asyncio.get_running_loop().sock_recv(self._sock, READ_BYTES)
        if not piece:
            raise ConnectionResetError("it has closed the connection")
        self._said_bytes += len(piece)
        if self._said_bytes > MAX_SAID_BYTES:
            raise ConnectionResetError("it says too much")
        return piece

    def _noted(self, message: dict[str, Any]) -> dict[str, Any]:
        if "event" in message:
            self.events = [*self.events[1 - MAX_EVENTS :], str(message["event"])[:64]]
        return message

    def close(self) -> None:
        self._sock.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.close()


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConnectionResetError("it does not speak QMP") from error
    if not isinstance(message, dict) or not isinstance(message.get("error", {}), dict):
        raise ConnectionResetError("it does not speak QMP")
    return message
