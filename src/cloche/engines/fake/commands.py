"""The commands that a fake sandbox knows. Everything else is "not found", as in a very small image."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable
from typing import Any

from cloche.engines.fake.filesystem import Filesystem
from cloche.engines.fake.process import FakeProcess, signal_number
from cloche.guest_api.frames import STDERR, STDOUT, StreamKind
from cloche.model.errors import ClocheError

Run = Callable[["Shell", list[str]], Awaitable[int]]
CHUNK_BYTES = 64 << 10


class Shell:
    """What a command may touch. `out` is where its standard output goes. `memory`: JSON by which a command that is
    called again goes on where it was; a capture takes it while the command waits."""

    def __init__(
        self, process: FakeProcess, files: Filesystem, memory: dict[str, Any], out: StreamKind = STDOUT
    ) -> None:
        self.process = process
        self.files = files
        self.memory = memory
        self.out = out

    async def write(self, data: bytes) -> None:
        await self.process.write(self.out, data)


class ExitNow(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


async def _true(shell: Shell, args: list[str]) -> int:
    return 0


async def _false(shell: Shell, args: list[str]) -> int:
    return 1


async def _echo(shell: Shell, args: list[str]) -> int:
    newline = not (args and args[0] == "-n")
    text = " ".join(args if newline else args[1:]) + ("\n" if newline else "")
    await shell.write(text.encode("utf-8", "surrogateescape"))
    return 0


async def _cat(shell: Shell, args: list[str]) -> int:
    memory = shell.memory
    for path in (args or ["-"])[memory.get("files", 0) :]:
        failed = await (_cat_stdin(shell) if path == "-" else _cat_file(shell, path))
        memory.update(files=memory.get("files", 0) + 1, offset=0, code=max(failed, memory.get("code", 0)))
    return int(memory.get("code", 0))


async def _cat_stdin(shell: Shell) -> int:
    while data := shell.memory.get("held", "").encode("latin-1") or await shell.process.stdin.read(CHUNK_BYTES):
        # between its input and its output the data is nowhere else
        shell.memory["held"] = data.decode("latin-1")
        await shell.write(data)
        shell.memory["held"] = ""
    return 0


async def _cat_file(shell: Shell, path: str) -> int:
    try:
        node = shell.files.find(path, base=shell.process.cwd).existing()
    except ClocheError:
        await shell.process.stderr(f"cat: {path}: No such file or directory\n")
        return 1
    if node.kind != "file":
        await shell.process.stderr(f"cat: {path}: Is a directory\n")
        return 1
    for start in range(shell.memory.get("offset", 0), len(node.data), CHUNK_BYTES):
        shell.memory["offset"] = start
        await shell.write(node.data[start : start + CHUNK_BYTES])
    return 0


async def _sleep(shell: Shell, args: list[str]) -> int:
    if not args or any(not re.fullmatch(r"\d+(\.\d+)?", arg) for arg in args):
        await shell.process.stderr("sleep: invalid time interval\n")
        return 1
    seconds = shell.process.remember_time(sum(map(float, args)))
    await asyncio.sleep(seconds)
    shell.process.forget_time()
    return 0


async def _env(shell: Shell, args: list[str]) -> int:
    lines = "".join(f"{key}={value}\n" for key, value in shell.process.env.items())
    await shell.write(lines.encode("utf-8", "surrogateescape"))
    return 0


async def _pwd(shell: Shell, args: list[str]) -> int:
    await shell.write(shell.process.cwd.encode("utf-8", "surrogateescape") + b"\n")
    return 0


async def _yes(shell: Shell, args: list[str]) -> int:
    line = (" ".join(args) or "y").encode("utf-8", "surrogateescape") + b"\n"
    chunk = line * max(1, CHUNK_BYTES // len(line))
    while True:
        await shell.write(chunk)
        # One loop carries every fake sandbox: a command that never waits would stop them all.
        await asyncio.sleep(0.0005)


async def _kill_self(shell: Shell, args: list[str]) -> int:
    shell.process.kill(signal_number(int(args[0]) if args and args[0].isdigit() else (args or ["KILL"])[0]))
    await asyncio.sleep(0)
    return 0


async def _exit(shell: Shell, args: list[str]) -> int:
    raise ExitNow(int(args[0]) % 256 if args and args[0].isdigit() else 0)


async def _sh(shell: Shell, args: list[str]) -> int:
    """`-c` with simple commands after one another; `exit N`; `>&2`. No variables, no pipes."""
    if len(args) < 2 or args[0] != "-c":
        return await _cat_nowhere(shell)
    memory = shell.memory
    try:
        for statement in re.split(r"[;\n]", args[1])[memory.get("statements", 0) :]:
            memory["code"] = await _statement(shell, statement, memory.setdefault("inner", {}))
            memory.update(statements=memory.get("statements", 0) + 1, inner={})
    except ExitNow as leave:
        return leave.code
    return int(memory.get("code", 0))


async def _cat_nowhere(shell: Shell) -> int:
    while await shell.process.stdin.read(CHUNK_BYTES):
        pass
    return 0


async def _statement(shell: Shell, statement: str, memory: dict[str, Any]) -> int:
    words = shlex.split(statement)
    if not words:
        return 0
    inner = Shell(shell.process, shell.files, memory, STDERR if words[-1] in (">&2", "1>&2") else shell.out)
    name, *args = [word for word in words if word not in (">&2", "1>&2")]
    run = _exit if name == "exit" else find(name)
    if run is None:
        await shell.process.stderr(f"sh: 1: {name}: not found\n")
        return 127
    return await run(inner, args)


COMMANDS: dict[str, Run] = {
    "true": _true, "false": _false, "echo": _echo, "cat": _cat, "sleep": _sleep, "env": _env, "pwd": _pwd, "yes": _yes,
    "kill-self": _kill_self, "sh": _sh, "bash": _sh,
}  # fmt: skip


def find(name: str) -> Run | None:
    """By name, or by its path in /bin or /usr/bin."""
    directory, _, base = name.rpartition("/")
    return COMMANDS.get(base) if directory in ("", "/bin", "/usr/bin") else None
