"""Talks to the launchers that stay with each box: start one, ask it, and wait for its end.

A supervisor is recognised by its control socket in a directory that only this user can enter and by the nonce that it
wrote down, never by a pid alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from cloche.channel.unix import UnixChannel, address_of
from cloche.engines.launched import stages
from cloche.model.errors import EngineError

READY_TIMEOUT_SECONDS = 30.0
Result = TypeVar("Result")
MAX_REPLY_BYTES = 1 << 20
#: to a socket of this machine that is listening
CONNECT_SECONDS = 0.1


async def launch(
    launcher: Path, plan: dict[str, Any], waiting: subprocess.Popen[bytes] | None = None
) -> dict[str, Any]:
    """Make a box; the launcher's ready line. `waiting`: one that was started before. Raises EngineError (which stage
    failed and its remedy) or NoSpaceError."""
    return await uninterrupted(_launch, launcher, plan, waiting)


async def uninterrupted(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run it in a thread, which cannot be stopped: who is cancelled meanwhile waits for its end, so that whatever comes
    after (taking away what it makes) does come after."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        running.exception()
        raise


def _launch(launcher: Path, plan: dict[str, Any], waiting: subprocess.Popen[bytes] | None) -> dict[str, Any]:
    line = _make(waiting, plan) if waiting else {}
    if not line:
        # nobody waited, or it was killed meanwhile: nothing of its box is left then
        line = _make(start(launcher), plan)
    if not line.get("ok"):
        silent = {"stage": "launcher", "message": "the launcher ended without a word, see launcher.log"}
        raise stages.failure(line.get("failure") or silent, plan)
    return line


def start(launcher: Path) -> subprocess.Popen[bytes]:
    """A launcher that waits for its plan. Raises EngineError."""
    try:
        # a session of its own: the supervisor must outlive this process and its terminal. It writes its log by itself
        return subprocess.Popen(
            [str(launcher), "supervise"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # it hardly ever does two things at once, and each thread costs memory as long as the sandbox lives
            env={"GOMAXPROCS": "1"},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise stages.cannot_run(launcher, error) from error


def _make(process: subprocess.Popen[bytes], plan: dict[str, Any]) -> dict[str, Any]:
    """What the launcher says, {} when it ended without a word."""
    try:
        line = _exchange(process, plan)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if line.get("ok"):
        _Reaper.adopt(process)
    else:
        process.wait()
    return line


def _exchange(process: subprocess.Popen[bytes], plan: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None and process.stdout is not None
    with process.stdin, process.stdout:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(plan).encode())
            process.stdin.close()
        _await_line(process.stdout)
        line = process.stdout.readline(MAX_REPLY_BYTES)
    try:
        decoded = json.loads(line)
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _await_line(pipe: IO[bytes]) -> None:
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    if not poller.poll(READY_TIMEOUT_SECONDS * 1000):
        text = f"the sandbox was not made within {READY_TIMEOUT_SECONDS:.0f} s"
        raise EngineError(text, remedy="see launcher.log; a mount whose server is away?", stage="launcher")


class _Reaper:
    """Supervisors that this process started and must wait for, so that none becomes a zombie."""

    children: dict[int, subprocess.Popen[bytes]] = {}

    @classmethod
    def adopt(cls, process: subprocess.Popen[bytes]) -> None:
        cls.children[process.pid] = process
        for pid, child in list(cls.children.items()):
            if child.poll() is not None:
                cls.children.pop(pid, None)

    @classmethod
    def collect(cls, pid: int) -> None:
        child = cls.children.get(pid)
        if child is not None and child.poll() is not None:
            cls.children.pop(pid, None)


async def ask(run_dir: Path, request: dict[str, Any], *, timeout_seconds: float | None = 10.0) -> dict[str, Any] | None:
    """The supervisor's reply, or None when there is nobody to answer. Raises EngineError when it refuses."""
    try:
        async with asyncio.timeout(timeout_seconds):
            stream = await UnixChannel(str(run_dir / "control.sock")).open()
            try:
                await stream.write(json.dumps(request).encode() + b"\n")
                reply = await _read_line(stream)
            finally:
                await stream.close()
    except Exception as error:
        if isinstance(error, TimeoutError):
            raise EngineError("the sandbox's supervisor does not answer", stage="control") from error
        return None
    if reply is not None and not reply.get("ok"):
        raise EngineError(f"the supervisor refused: {reply.get('error')}", stage="control")
    return reply


def begin_asking(control: Path, line: bytes) -> socket.socket | None:
    """Put a question whose answer the supervisor has at hand; `end_asking` takes it. Blocks: for a thread."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(CONNECT_SECONDS)
        with address_of(control) as address:
            sock.connect(address)
        sock.sendall(line)
    except OSError:
        sock.close()
        return None
    return sock


def end_asking(sock: socket.socket | None, timeout_seconds: float) -> dict[str, Any]:
    """The reply; {} when there is none in time."""
    if sock is None:
        return {}
    with sock:
        sock.settimeout(max(0.001, timeout_seconds))
        data = b""
        try:
            while not data.endswith(b"\n") and len(data) < MAX_REPLY_BYTES and (piece := sock.recv(65536)):
                data += piece
            decoded = json.loads(data)
        except (OSError, ValueError):
            return {}
    return decoded if isinstance(decoded, dict) and decoded.get("ok") else {}


async def _read_line(stream: Any) -> dict[str, Any] | None:
    data = b""
    while not data.endswith(b"\n") and len(data) < MAX_REPLY_BYTES:
        chunk = await stream.read(65536)
        if not chunk:
            return None
        data += chunk
    decoded = json.loads(data)
    return decoded if isinstance(decoded, dict) else None


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        decoded = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return decoded if isinstance(decoded, dict) else None


def is_supervisor(pid: int, run_dir: Path) -> bool:
    """Whether that pid is a launcher at work in this run directory, which nobody else can enter."""
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", run_dir) and "cloche-launcher" in os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False


def find_in(run_dir: Path) -> list[int]:
    """Launchers at work in a run directory, also ones that have not written their state yet."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and is_supervisor(int(name), run_dir)]


async def wait_gone(pid: int) -> None:
    """Return when that process has ended, whoever its parent is."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_reader(pidfd, _settle, ended)
    try:
        await ended
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        _Reaper.collect(pid)


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


async def kill(pid: int, run_dir: Path) -> None:
    """End a supervisor that does not answer; its box dies with it."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # checked after the descriptor was taken: the pid cannot have been reused in between
        if is_supervisor(pid, run_dir):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)
    await wait_gone(pid)
