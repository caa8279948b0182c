"""The guest of a fake sandbox: its session and its processes. It ends with the box."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import msgspec

from cloche.engines.fake import commands
from cloche.engines.fake.filesystem import HOME, Filesystem, absolute
from cloche.engines.fake.process import FakeProcess, FrozenProcess, signal_number
from cloche.guest_api.egress import EgressAttempt, EgressSetup
from cloche.guest_api.models import GuestHealth, GuestStats, SessionSetup
from cloche.model.errors import ClocheError, InvalidError, NotFoundError
from cloche.model.process import ProcessInfo, ProcessSpec

VERSION = "0.1.0+fake"
USERS = ["user"]
KEPT_PROCESSES = 256
BASE_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": HOME, "USER": "user", "LOGNAME": "user",
            "SHELL": "/bin/sh", "LANG": "C.UTF-8"}  # fmt: skip


#: a process with this in its environment gets the signal that it names in every fork
FORK_SIGNAL = "CLOCHE_FORK_SIGNAL"


class FrozenGuest(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of a guest in a capture."""

    session: SessionSetup
    egress: EgressSetup = EgressSetup(mode="closed")
    next_pid: int
    pids_limit: int
    uptime_seconds: float
    processes: list[FrozenProcess]


def _tell_of_fork(process: FakeProcess) -> None:
    """A name that is no signal's is nobody's wish."""
    name = process.env.get(FORK_SIGNAL)
    with contextlib.suppress(InvalidError):
        if name:
            process.kill(signal_number(name))


class FakeGuest:
    def __init__(self, sandbox_id: str, nonce: str, files: Filesystem, pids: int, on_exit: Callable[[], None]) -> None:
        self.sandbox_id = sandbox_id
        self.nonce = nonce
        self.files = files
        self.running = asyncio.Event()
        self.running.set()
        self.processes: dict[str, FakeProcess] = {}
        self._pids_limit = pids
        self._on_exit = on_exit
        self._next_pid = 2
        self._started = time.monotonic()
        self._session = SessionSetup(sandbox_id=sandbox_id)
        self.egress = EgressSetup(mode="closed")
        self.attempts: list[EgressAttempt] = []

    def health(self) -> GuestHealth:
        uptime = time.monotonic() - self._started
        return GuestHealth(api_version=1, guest_version=VERSION, sandbox_id=self.sandbox_id, nonce=self.nonce,
                           uptime_seconds=uptime, users=USERS)  # fmt: skip

    def stats(self) -> GuestStats:
        kept = sum(process.output.total for process in self.processes.values())
        return GuestStats(processes=self.alive(), disk_bytes=self.files.used_bytes(), output_ring_bytes=kept,
                          disk_limit_bytes=self.files.limit_bytes, time=time.time())  # fmt: skip

    def configure(self, setup: SessionSetup) -> None:
        self._session = setup
        self.sandbox_id = setup.sandbox_id
        self._pids_limit = setup.pids or self._pids_limit
        if setup.workdir:
            self.files.find(setup.workdir).existing()

    def alive(self) -> int:
        return sum(process.state == "running" for process in self.processes.values())

    def start(self, spec: ProcessSpec) -> FakeProcess:
        """Raises InvalidError for a spec that is wrong; a command that cannot start has exited already."""
        spec.check()
        process = self._new_process(spec)
        self._forget_old()
        self.processes[process.id] = process
        if self._may_run(process):
            self._run(process)
        return process

    def _run(self, process: FakeProcess) -> None:
        program, *args = process.spec.argv
        run = commands.find(program)
        if run is None:
            process.fail(127, f"{program}: not found")
            return
        shell = commands.Shell(process, self.files, process.memory)
        process.start(lambda _: run(shell, args))

    def process(self, process_id: str) -> FakeProcess:
        if process_id not in self.processes:
            raise NotFoundError(f"there is no process {process_id}")
        return self.processes[process_id]

    def list(self) -> list[ProcessInfo]:
        return [process.info() for process in self.processes.values()]

    def forget(self, process_id: str) -> None:
        self.process(process_id).discard()
        del self.processes[process_id]

    def shut_down(self, grace_seconds: float) -> None:
        """The answer leaves first, then everything ends."""
        asyncio.get_running_loop().call_soon(self._on_exit)

    def frozen(self) -> FrozenGuest:
        """Everything in its memory."""
        processes = [process.frozen() for process in self.processes.values()]
        return FrozenGuest(session=self._session, egress=self.egress, next_pid=self._next_pid,
                           pids_limit=self._pids_limit, uptime_seconds=time.monotonic() - self._started,
                           processes=processes)  # fmt: skip

    def thaw(self, frozen: FrozenGuest, *, forked: bool) -> None:
        """Go on from a capture. Processes of a fork that have asked for it are told by a signal."""
        self._session = msgspec.structs.replace(frozen.session, sandbox_id=self.sandbox_id)
        self.egress = frozen.egress
        self._next_pid, self._pids_limit = frozen.next_pid, frozen.pids_limit
        self._started = time.monotonic() - frozen.uptime_seconds
        for each in frozen.processes:
            process = self.processes[each.id] = FakeProcess.thawed(each, self.running)
            if process.state == "running":
                self._run(process)
                if forked:
                    _tell_of_fork(process)

    def end(self) -> None:
        for process in self.processes.values():
            process.discard()

    def _new_process(self, spec: ProcessSpec) -> FakeProcess:
        self._next_pid += 1
        cwd = absolute(spec.cwd or self._session.workdir or HOME)
        user = spec.user or self._session.user or "user"
        process = FakeProcess(spec, pid=self._next_pid, cwd=cwd, user=user, running=self.running)
        process.env = {
            **BASE_ENV,
            **self.egress.placeholders,
            "PWD": cwd,
            **self._session.env,
            **self._session.session_env,
            **spec.env,
        }
        return process

    def _may_run(self, process: FakeProcess) -> bool:
        if process.user not in USERS:
            process.fail(126, f"there is no user {process.user!r}")
        elif not self._is_directory(process.cwd):
            process.fail(126, f"{process.cwd} is not a directory")
        # The guest itself is one of the box's processes; so is this one already.
        elif self.alive() + 1 > self._pids_limit:
            process.fail(126, "cannot start another process: the limit of processes is reached", "pids")
        return not process.exited.is_set()

    def _is_directory(self, path: str) -> bool:
        try:
            return self.files.find(path).existing().kind == "directory"
        except ClocheError:
            return False

    def _forget_old(self) -> None:
        exited = [key for key, process in self.processes.items() if process.state == "exited"]
        for key in exited[: max(0, len(exited) - KEPT_PROCESSES + 1)]:
            del self.processes[key]
