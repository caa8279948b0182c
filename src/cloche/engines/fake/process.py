"""One process of a fake sandbox: a task that runs a scripted command, with the life and the receipt of a real one."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from cloche.engines.fake.output import Output
from cloche.engines.fake.streams import Pipe
from cloche.guest_api.frames import STDERR, STDOUT, StreamKind
from cloche.model.errors import InvalidError, WrongStateError
from cloche.model.process import LimitName, ProcessInfo, ProcessSpec, Usage

Command = Callable[["FakeProcess"], Awaitable[int]]
#: their default action is not to end the process
HARMLESS = frozenset({signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class FakeProcess:
    def __init__(self, spec: ProcessSpec, *, pid: int, cwd: str, user: str, running: asyncio.Event) -> None:
        self.id = "p_" + "".join(_ALPHABET[byte % 32] for byte in os.urandom(26))
        self.spec = spec
        self.pid = pid
        self.cwd = cwd
        self.user = user
        self.env: dict[str, str] = {}
        self.output = Output()
        self.stdin = Pipe()
        self.stdin_total = 0
        self.rows_cols = (spec.pty.rows, spec.pty.cols) if spec.pty else None
        self.exited = asyncio.Event()
        self._running = running
        self._started_at = time.time()
        self._clock = time.monotonic()
        self._ended_clock = 0.0
        self._task: asyncio.Task[int] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._exit_code: int | None = None
        self._signal: int | None = None
        self._limit: LimitName | None = None
        self._error: str | None = None

    def start(self, command: Command) -> None:
        if not self.spec.stdin and not self.spec.pty:
            self.stdin.end()
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(command))
        self._task.add_done_callback(self._done)
        if self.spec.timeout_seconds is not None:
            self._deadline = loop.call_later(self.spec.timeout_seconds, self._time_out)

    def fail(self, exit_code: Literal[126, 127], error: str, limit: LimitName | None = None) -> None:
        """It never ran."""
        self._error, self._limit = error, limit
        self._end(exit_code)

    async def write(self, stream: StreamKind, data: bytes) -> None:
        """What the command prints. A frozen sandbox prints nothing."""
        await self._running.wait()
        into = STDOUT if self.spec.pty else stream
        limit = self.spec.output_limit_bytes
        room = len(data) if limit is None else limit - self.output.total
        await self.output.write(into, data[: max(room, 0)])
        if room < len(data):
            self._limit = "output"
            self.kill(signal.SIGKILL)
            await asyncio.Event().wait()

    async def stdout(self, text: str) -> None:
        await self.write(STDOUT, text.encode("utf-8", "surrogateescape"))

    async def stderr(self, text: str) -> None:
        await self.write(STDERR, text.encode("utf-8", "surrogateescape"))

    async def write_stdin(self, data: bytes) -> None:
        if self.exited.is_set() or self.stdin.ended:
            raise WrongStateError(f"process {self.id} takes no input: its stdin is closed", state=self.state)
        try:
            await self.stdin.write(data)
        except BrokenPipeError as error:
            raise WrongStateError(f"process {self.id} has exited", state="exited") from error
        self.stdin_total += len(data)

    def close_stdin(self) -> None:
        self.stdin.end()

    def kill(self, number: int) -> None:
        """Deliver a signal. Raises WrongStateError when it has exited."""
        if self.exited.is_set():
            raise WrongStateError(f"process {self.id} has exited", state="exited")
        if number == 0 or number in HARMLESS:
            return
        self._signal = self._signal or number
        if self._task is not None:
            self._task.cancel()

    def discard(self) -> None:
        """The box is gone under it: no code of its own runs any more."""
        if not self.exited.is_set():
            self.kill(signal.SIGKILL)

    def info(self) -> ProcessInfo:
        rings = self.output.rings
        return ProcessInfo(
            id=self.id, pid=self.pid, argv=self.spec.argv, state=self.state, started_at=self._started_at, cwd=self.cwd,
            user=self.user, tag=self.spec.tag, pty=self.spec.pty is not None, exit_code=self._exit_code,
            signal=self._signal if self.exited.is_set() and self._limit != "timeout" else None, error=self._error,
            limit_hit=self._limit, usage=self._usage() if self.exited.is_set() else None,
            stdout_bytes=rings[STDOUT].end, stderr_bytes=rings[STDERR].end,
        )  # fmt: skip

    @property
    def state(self) -> Literal["running", "exited"]:
        return "exited" if self.exited.is_set() else "running"

    async def _run(self, command: Command) -> int:
        code = await command(self)
        await self._running.wait()
        return code

    def _done(self, task: asyncio.Task[int]) -> None:
        # Here and not in the task: a task that is cancelled before its first step never runs a line.
        if task.cancelled():
            code = 128 + (self._signal or signal.SIGKILL)
        elif (error := task.exception()) is not None:
            self._error, code = f"{type(error).__name__}: {error}", 1
        else:
            code = task.result()
        self._end(124 if self._limit == "timeout" else code)

    def _time_out(self) -> None:
        # The scripted commands all die of SIGTERM, so that the second, stronger signal never comes to be needed.
        self._limit = "timeout"
        self.kill(signal.SIGTERM)

    def _end(self, exit_code: int) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._exit_code = exit_code
        self._ended_clock = time.monotonic()
        self.exited.set()
        self.stdin.break_off()
        self.output.notify()

    def _usage(self) -> Usage:
        return Usage(wall_seconds=self._ended_clock - self._clock, output_bytes=self.output.total)


def signal_number(value: int | str) -> int:
    """A number, "SIGTERM" or "TERM". Raises InvalidError."""
    if isinstance(value, int) and 0 <= value <= 64:
        return value
    name = str(value).upper()
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"].value
    except KeyError as error:
        raise InvalidError(f"there is no signal {value!r}", field="signal") from error
