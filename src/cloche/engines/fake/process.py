"""One process of a fake sandbox: a task that runs a scripted command, with the life and the receipt of a real one."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from cloche.engines.fake.output import Output
from cloche.engines.fake.streams import Pipe
from cloche.guest_api.frames import STDERR, STDOUT, StreamKind
from cloche.model.errors import InvalidError, WrongStateError
from cloche.model.process import LimitName, ProcessInfo, ProcessSpec, Usage

Command = Callable[["FakeProcess"], Awaitable[int]]
#: their default action is not to end the process
HARMLESS = frozenset({signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class FrozenProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A process in a capture. `stdout` and `stderr`: the offset at which the ring begins, and what is in it.
    `timeout_seconds`: what is left of it."""

    id: str
    spec: ProcessSpec
    pid: int
    cwd: str
    user: str
    env: dict[str, str]
    memory: dict[str, Any]
    stdout: tuple[int, bytes]
    stderr: tuple[int, bytes]
    stdin: bytes
    stdin_ended: bool
    stdin_total: int
    rows_cols: tuple[int, int] | None
    started_at: float
    wall_seconds: float
    timeout_seconds: float | None
    exit_code: int | None
    signal: int | None
    limit_hit: LimitName | None
    error: str | None


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
        self._timeout_seconds = spec.timeout_seconds
        self._wakes_at: float | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._exit_code: int | None = None
        self._signal: int | None = None
        self._limit: LimitName | None = None
        self._error: str | None = None
        self.memory: dict[str, Any] = {}
        """Of its command: where it is in what it does."""

    @classmethod
    def thawed(cls, frozen: FrozenProcess, running: asyncio.Event) -> FakeProcess:
        """The process of a capture as it was; one that ran goes on when it is started."""
        made = cls(frozen.spec, pid=frozen.pid, cwd=frozen.cwd, user=frozen.user, running=running)
        made.id, made.env, made.memory = frozen.id, dict(frozen.env), frozen.memory
        made.output.fill({STDOUT: frozen.stdout, STDERR: frozen.stderr})
        made.stdin.fill(frozen.stdin, frozen.stdin_ended)
        made.stdin_total, made.rows_cols = frozen.stdin_total, frozen.rows_cols
        made._started_at, made._clock = frozen.started_at, time.monotonic() - frozen.wall_seconds
        made._signal, made._limit, made._error = frozen.signal, frozen.limit_hit, frozen.error
        made._timeout_seconds = frozen.timeout_seconds
        if frozen.exit_code is not None:
            made._end(frozen.exit_code)
        return made

    def frozen(self) -> FrozenProcess:
        """Everything of it, while its code waits somewhere."""
        ended = self.exited.is_set()
        left = None if self._deadline is None or ended else self._deadline.when() - asyncio.get_running_loop().time()
        return FrozenProcess(
            id=self.id, spec=self.spec, pid=self.pid, cwd=self.cwd, user=self.user, env=self.env,
            memory=self._remembered(), stdout=self.output.rings[STDOUT].kept(), stderr=self.output.rings[STDERR].kept(),
            stdin=self.stdin.kept(), stdin_ended=self.stdin.ended, stdin_total=self.stdin_total,
            rows_cols=self.rows_cols, started_at=self._started_at, timeout_seconds=left, signal=self._signal,
            wall_seconds=(self._ended_clock if ended else time.monotonic()) - self._clock, limit_hit=self._limit,
            error=self._error, exit_code=self._exit_code,
        )  # fmt: skip

    def remember_time(self, seconds: float) -> float:
        """How long to sleep: what was left when it was captured, else `seconds`."""
        left = float(self.memory.pop("sleep_left", seconds))
        self._wakes_at = time.monotonic() + left
        return left

    def forget_time(self) -> None:
        self._wakes_at = None

    def _remembered(self) -> dict[str, Any]:
        if self._wakes_at is None:
            return self.memory
        return {**self.memory, "sleep_left": max(0.0, self._wakes_at - time.monotonic())}

    def start(self, command: Command) -> None:
        if not self.spec.stdin and not self.spec.pty:
            self.stdin.end()
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(command))
        self._task.add_done_callback(self._done)
        if self._timeout_seconds is not None:
            self._deadline = loop.call_later(self._timeout_seconds, self._time_out)

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
        # a capture may fall between the command's end and the process's
        code = self.memory["done"] = self.memory["done"] if "done" in self.memory else await command(self)
        await self._running.wait()
        return int(code)

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
        self.memory = {}
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
