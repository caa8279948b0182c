"""`cloche serve` in the foreground, and what a shell completes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpcore
import pytest

from cloche import Sandbox
from tests.integration.bad_luck import CLI, cloche, read_until
from tests.integration.node_harness import SOURCE, end_node

COMPLETE = """
{script}
compopt() {{ :; }}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_cloche_completion cloche
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = tmp_path / "home"
    for name, value in (("CLOCHE_HOME", str(place)), ("PYTHONPATH", str(SOURCE)), ("CLOCHE_ENGINE", "fake")):
        monkeypatch.setenv(name, value)
    yield place
    end_node(place)


@contextmanager
def served(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*CLI, "serve", *argv], stderr=subprocess.PIPE) as node:
        try:
            assert node.stderr is not None
            read_until(node.stderr.fileno(), b" ready ")
            yield node
        finally:
            node.kill()


def left(node: subprocess.Popen[bytes], number: signal.Signals) -> bytes:
    node.send_signal(number)
    said = node.communicate(timeout=60)[1]
    assert node.returncode == 0 and b"Traceback" not in said
    return said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_until_told(home: Path, number: signal.Signals) -> None:
    with served() as node:
        assert json.loads(cloche("node", "status", "--json").stdout)["pid"] == node.pid
        again = cloche("serve")
        assert again.returncode == 125 and b"already serves" in again.stderr and b"cloche node stop" in again.stderr
        assert b"leaving" in left(node, number)
    assert cloche("node", "status").returncode == 1


def test_a_second_socket(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind("second.sock")
    stale.close()
    with served("--socket", "second.sock") as node:
        assert stat.S_IMODE(os.stat("second.sock").st_mode) == 0o600
        with httpcore.ConnectionPool(uds="second.sock") as pool:
            assert json.loads(pool.request("GET", "http://node/v1/health").content)["pid"] == node.pid
        left(node, signal.SIGINT)
    assert not Path("second.sock").exists()


def test_a_second_socket_that_cannot_be(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(tmp_path / "busy"))
        busy.listen()
        for place in ("file", "busy", "no/such/place", "x" * 120):
            failed = cloche("serve", "--socket", str(tmp_path / place))
            assert failed.returncode == 1 and b"Traceback" not in failed.stderr, place
            assert str(tmp_path / place).encode() in failed.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("argv", "state"), [((), "running"), (("--stop-sandboxes",), "stopped")])
def test_what_becomes_of_sandboxes(real_home: Path, argv: tuple[str, ...], state: str) -> None:
    cloche("node", "stop")
    with served(*argv) as node:
        box = Sandbox.create()
        said = left(node, signal.SIGINT)
        assert b"Traceback" not in said
    assert box.info().state == state
    box.remove()


def completed(words: str) -> list[str]:
    script = cloche("completion", "bash").stdout.decode()
    source = COMPLETE.format(script=script, words=words)
    folder = Path("bin")
    folder.mkdir(exist_ok=True)
    (folder / "cloche").write_text(f'#!/bin/sh\nexec {sys.executable} -m cloche.cli "$@"\n')
    (folder / "cloche").chmod(0o755)
    env = {**os.environ, "PATH": f"{folder.absolute()}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", source], capture_output=True, text=True, env=env, timeout=60)
    assert not done.stderr, done.stderr
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash completes, and there is none")
def test_bash_completes(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert completed("cloche sto") == ["stop"]
    assert completed("cloche exec gla") == [] and not home.exists()
    for name in ("glass", "glow"):
        assert cloche("create", "--name", name).returncode == 0
    assert completed("cloche exec gla") == ["glass"]
    assert completed("cloche rm glass gl") == ["glow"]
    assert completed("cloche cp gla") == ["glass:"]
    assert completed("cloche run --engine na") == ["namespace"]
    assert completed("cloche run --isol") == ["--isolation"]
    monkeypatch.setenv("CLOCHE_HOME", "/dev/null/nothing")
    assert completed("cloche exec gla") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells(shell: str) -> None:
    done = cloche("completion", shell)
    assert done.returncode == 0 and b"_CLOCHE_COMPLETE" in done.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} to read it")
    assert subprocess.run([shell, "-n"], input=done.stdout, capture_output=True).returncode == 0
