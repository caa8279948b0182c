"""Clients of `cloche mcp`: the official one, and one that writes the lines itself and so may do anything wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult

from tests.integration.node_harness import SOURCE

COMMAND = [sys.executable, "-m", "cloche.cli", "mcp"]
DEADLINE_SECONDS = 60.0


def variables(home: Path, **more: str) -> dict[str, str]:
    return {"CLOCHE_HOME": str(home), "CLOCHE_ENGINE": "namespace", "PYTHONPATH": str(SOURCE), **more}


class Answer:
    """What a call brought: `answer["exit_code"]` is a field of its data."""

    def __init__(self, result: CallToolResult) -> None:
        self.content: list[Any] = list(result.content)
        self.is_error = result.is_error
        self.data: dict[str, Any] = result.structured_content

    def __getitem__(self, name: str) -> Any:
        return self.data[name]

    @property
    def text(self) -> str:
        return str(self.content[0].text)


class Tools:
    """The official client: `await tools.run_command(command="ls")` is a call."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Answer]]:
        async def call(progress_callback: Any = None, **arguments: Any) -> Answer:
            return Answer(await self.session.call_tool(name, arguments, progress_callback=progress_callback))

        return call


@contextlib.asynccontextmanager
async def connected(home: Path, work: Path, *arguments: str, **more: str) -> AsyncIterator[Tools]:
    """`arguments`: of `cloche mcp`; `more`: of its environment."""
    command = [*COMMAND, *arguments]
    server = StdioServerParameters(command=command[0], args=command[1:], env=variables(home, **more), cwd=work)
    with open(work / "stderr", "w") as errors, anyio.fail_after(DEADLINE_SECONDS):
        async with stdio_client(server, errors) as streams:
            async with ClientSession(*streams) as session:
                await session.initialize()
                yield Tools(session)


class Wire:
    """One server process and its two pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._next = 0

    def send(self, message: object) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def request(self, method: str, params: object) -> int:
        self._next += 1
        self.send({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params})
        return self._next

    def call(self, tool: str, progress: bool = False, **arguments: Any) -> int:
        meta = {"_meta": {"progressToken": "t"}} if progress else {}
        return self.request("tools/call", {"name": tool, "arguments": arguments, **meta})

    def cancel(self, number: int) -> None:
        self.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}})

    def receive(self) -> dict[str, Any]:
        """The next message; whatever stands in the output must be one."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the server has closed its output"
        message = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return dict(message)

    def answers(self, *numbers: int) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        while set(found) < set(numbers):
            message = self.receive()
            if "id" in message:
                found[message["id"]] = message
        assert set(found) == set(numbers)
        return found

    def until_progress(self, part: str) -> None:
        """Wait until a progress notification holds this text."""
        while part not in str(self.receive().get("params", {}).get("message")):
            pass

    def shake_hands(self) -> None:
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "wire", "version": "0"}}
        self.answers(self.request("initialize", about))
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def hang_up(self) -> int:
        """Close both pipes, as the death of a client does, and wait for the server's end."""
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(DEADLINE_SECONDS)


@contextlib.contextmanager
def wire(home: Path, work: Path, **more: str) -> Iterator[Wire]:
    environment = {**os.environ, **variables(home, **more)}
    with open(work / "stderr", "wb") as errors:
        process = subprocess.Popen(
            COMMAND, cwd=work, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
    try:
        yield Wire(process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert pipe
                pipe.close()
        try:
            process.wait(DEADLINE_SECONDS)
        finally:
            process.kill()
            process.wait()
