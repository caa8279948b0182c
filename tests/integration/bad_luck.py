"""What the tests of bad luck share: the command line, a node that is killed, and patience without sleeping."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cloche import Process
from tests.integration.node_harness import DEADLINE_SECONDS, node_pid, wait_for_exit

CLI = [sys.executable, "-m", "cloche.cli"]


def cloche(*argv: str | bytes, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, **environ}
    return subprocess.run([*CLI, *argv], input=stdin, capture_output=True, timeout=100, env=env)


def kill_node(home: Path) -> None:
    """kill -9; returns when it is gone."""
    pid = node_pid(home)
    os.kill(pid, signal.SIGKILL)
    wait_for_exit(pid)


def read_until(descriptor: int, wanted: bytes) -> bytes:
    """What came up to and with `wanted`."""
    seen = b""
    while wanted not in seen:
        assert select.select([descriptor], [], [], DEADLINE_SECONDS)[0], f"no {wanted!r} in {seen[-500:]!r}"
        part = os.read(descriptor, 65536)
        assert part, f"ended without {wanted!r}: {seen[-500:]!r}"
        seen += part
    return seen


def until(true: Callable[[], bool], what: str) -> None:
    """Look again and again; nothing says when this happens."""
    give_up = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < give_up, f"not within {DEADLINE_SECONDS} s: {what}"


def everything(process: Process) -> tuple[bytes, bytes]:
    """Both streams from their beginning to the end of the process."""
    return b"".join(process.stdout), b"".join(process.stderr)
