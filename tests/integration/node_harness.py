"""Real nodes in directories of their own, and a plain HTTP client for their sockets. Nothing outlives a test."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloche import Node, Sandbox
from cloche.sdk import launch

SOURCE = Path(__file__).parents[2] / "src"
DEADLINE_SECONDS = 30.0


def environment(**more: str) -> dict[str, str]:
    """What a test's node and clients see."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLOCHE_")}
    return {**kept, "PYTHONPATH": str(SOURCE), "CLOCHE_ENGINE": "fake", **more}


def ask(home: Path, method: str, target: str, body: object = None) -> tuple[int, Any]:
    """One request to the node of `home`; the answer decoded when it is JSON."""
    connection = _Connection(home)
    try:
        connection.request(method, target, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    is_json = answer.getheader("content-type") == "application/json"
    return answer.status, json.loads(data) if is_json and data else data


@contextlib.contextmanager
def namespace_home(place: Path, **settings: str) -> Iterator[Path]:
    """`place` as CLOCHE_HOME of this process and its children, with the namespace engine and these CLOCHE_ settings.
    Skips the tests where that engine cannot run."""
    with pytest.MonkeyPatch.context() as patch:
        variables = {"CLOCHE_HOME": str(place), "PYTHONPATH": str(SOURCE), "CLOCHE_ENGINE": "namespace", **settings}
        for name, value in variables.items():
            patch.setenv(name, value)
        try:
            if "namespace" not in {found["name"] for found in Node().doctor()["engines"] if found["usable"]}:
                pytest.skip("the namespace engine cannot run on this machine: see cloche doctor")
            yield place
        finally:
            _end_all(place)


def _end_all(place: Path) -> None:
    """Sandboxes outlive their node, so they go first, and each although another fails."""
    with contextlib.ExitStack() as last:
        last.callback(end_node, place)
        for info in Sandbox.list():
            last.callback(Sandbox.from_id(info.id).remove)


class _Connection(http.client.HTTPConnection):
    def __init__(self, home: Path) -> None:
        super().__init__("node", timeout=DEADLINE_SECONDS)
        self._path = str(launch.socket_path(home))

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def node_pid(home: Path) -> int:
    return int(ask(home, "GET", "/v1/health")[1]["pid"])


def wait_for_exit(pid: int) -> None:
    """Return when the process has ended, whoever its parent is."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], DEADLINE_SECONDS)[0], f"process {pid} does not end"
    finally:
        os.close(descriptor)


def holder(home: Path) -> int | None:
    """The living process that says it holds `home`."""
    try:
        pid = int(json.loads((home / "node.lock").read_text())["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if b"cloche.node" in command else None


def end_node(home: Path, number: int = signal.SIGTERM) -> None:
    pid = holder(home)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        wait_for_exit(pid)


class RunningNode:
    """A node in the foreground, with what it said on its ready descriptor."""

    def __init__(self, process: subprocess.Popen[bytes], said: dict[str, Any]) -> None:
        self.process, self.said = process, said

    def wait(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, errors.decode()


@contextlib.contextmanager
def running_node(home: Path, *arguments: str, **environ: str) -> Iterator[RunningNode]:
    readable, writable = os.pipe()
    command = [sys.executable, "-m", "cloche.node", "--home", str(home), "--ready-fd", str(writable), *arguments]
    process = subprocess.Popen(command, env=environment(**environ), pass_fds=(writable,), stderr=subprocess.PIPE)
    os.close(writable)
    try:
        with os.fdopen(readable, "rb") as ready:
            assert select.select([ready], [], [], DEADLINE_SECONDS)[0], "the node says nothing"
            line = ready.readline()
        yield RunningNode(process, json.loads(line) if line else {})
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=DEADLINE_SECONDS)


def run_client(home: Path, code: str, **environ: str) -> subprocess.Popen[bytes]:
    """A client process with `home` and `launch` defined."""
    script = f"from pathlib import Path\nfrom cloche.sdk import launch\nhome = Path({str(home)!r})\n{code}"
    return subprocess.Popen([sys.executable, "-c", script], env=environment(**environ), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip
