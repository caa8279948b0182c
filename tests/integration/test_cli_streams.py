"""The real command in a process of its own, against a node in miniature: streams, statuses, signals, terminals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sdk.stub_node import StubNode

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "cloche.cli"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def node(home: Path) -> Iterator[StubNode]:
    stub = StubNode(home)
    yield stub
    stub.close()


@pytest.fixture(autouse=True)
def environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOCHE_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))


def cloche(*argv: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    if stdin is None:
        return subprocess.run([*CLI, *argv], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    return subprocess.run([*CLI, *argv], capture_output=True, timeout=60, input=stdin)


def start(*argv: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*CLI, *argv], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, bufsize=0)


def test_run_is_its_command(node: StubNode) -> None:
    done = cloche("run", "--", "sh", "-c", "printf '\\377\\000'; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"\xff\0", b"err\n")
    assert not node.sandboxes
    assert cloche("run", "echo", "--json", "-x").stdout == b"--json -x\n"
    assert cloche("run", "sh", "-c", "kill -9 $$").returncode == 137


def test_failures_have_their_own_status(node: StubNode) -> None:
    missing = cloche("run", "--", "no-such-program")
    assert missing.returncode == 127 and b"no-such-program" in missing.stderr
    for wrong in (
        ["run"],
        ["run", "--nope", "x"],
        ["nope"],
        ["run", "--memory", "much", "x"],
        ["exec", "nobody", "x"],
        ["run", "--net", "not a policy", "x"],
        ["run", "-v", "/a:/b:cow", "x"],
        ["run", "-t", "x"],
    ):
        failed = cloche(*wrong)
        assert failed.returncode == 125, wrong
        assert failed.stderr.startswith(b"cloche: ") and b"Traceback" not in failed.stderr
        assert not failed.stdout


def test_run_as_json(node: StubNode) -> None:
    done = cloche("run", "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    told = json.loads(done.stdout)
    assert done.returncode == 3 and not done.stderr
    assert (told["exit_code"], told["stdout"], told["stderr"], told["limit_hit"]) == (3, "out\n", "err\n", None)
    assert told["sandbox"].startswith("sb_") and told["usage"]["wall_seconds"] > 0


def test_stdin_is_passed_on_only_when_asked_for(node: StubNode) -> None:
    assert cloche("run", "-i", "cat", stdin=b"\0x" * 100_000).stdout == b"\0x" * 100_000
    assert cloche("run", "cat", stdin=b"ignored").stdout == b""
    assert json.loads(cloche("run", "-i", "--json", "cat", stdin=b"text").stdout)["stdout"] == "text"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_run_leaves_nothing(node: StubNode, number: signal.Signals, status: int) -> None:
    run = start("run", "--", "sh", "-c", "echo ready; exec sleep 60")
    assert run.stdout is not None and run.stdout.read(6) == b"ready\n"
    run.send_signal(number)
    assert run.wait(30) == status
    assert not node.sandboxes
    (process,) = node.processes.values()
    assert process.real.wait(10) in (-2, -9)


def test_ctrl_c_goes_to_the_command_which_may_handle_it(node: StubNode) -> None:
    run = start("run", "--", "sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done")
    assert run.stdout is not None and run.stdout.read(6) == b"ready\n"
    run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=30)[0] == b"caught\n"
    assert run.returncode == 5


def test_an_interrupt_while_the_sandbox_is_made(node: StubNode) -> None:
    reached, go = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        go.wait(30)

    node.on_create = hold
    run = start("run", "true")
    assert reached.wait(30)
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) == 143
    go.set()
    assert not node.sandboxes


def test_a_reader_that_goes_away_is_no_failure_to_shout_about(node: StubNode) -> None:
    line = f"{sys.executable} -m cloche.cli run -- yes | head -n 1"
    piped = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60)
    assert (piped.stdout, piped.stderr) == (b"y\n", b"")
    assert not node.sandboxes


def test_a_terminal_is_put_back(node: StubNode) -> None:
    controller, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    run = subprocess.Popen(
        [*CLI, "run", "-it", "--", "sh", "-c", "echo ready; cat"], stdin=terminal, stdout=terminal, stderr=terminal
    )
    assert b"ready" in os.read(controller, 100)
    assert termios.tcgetattr(terminal)[3] & (termios.ICANON | termios.ECHO) == 0
    os.write(controller, b"typed\n")
    assert b"typed" in os.read(controller, 100)
    run.terminate()
    assert run.wait(30) == 143
    assert termios.tcgetattr(terminal) == before
    assert not node.sandboxes
    (process,) = node.processes.values()
    assert process.spec["pty"]["rows"] >= 1
    os.close(controller)
    os.close(terminal)


def test_create_ls_exec_rm(node: StubNode) -> None:
    made = cloche("create", "--name", "box", "-l", "a=\x1b[31m", "-e", "K=v").stdout.decode().strip()
    assert node.sandboxes[made]["spec"]["env"] == {"K": "v"}
    listed = cloche("ls").stdout
    assert b"box" in listed and b"\x1b" not in listed and b"a=\\x1b[31m" in listed
    assert cloche("ls", "-q").stdout.decode() == f"{made}\n"
    assert json.loads(cloche("ls", "--json").stdout)["sandboxes"][0]["id"] == made
    assert json.loads(cloche("inspect", "box").stdout)["name"] == "box"
    assert cloche("exec", "box", "--", "echo", "-n", "hi").stdout == b"hi"
    process = cloche("exec", "-d", "box", "sh", "-c", "echo out; echo err >&2").stdout.decode().strip()
    logs = cloche("logs", "box", process, "--follow")
    assert (logs.stdout, logs.stderr) == (b"out\n", b"err\n")
    failed = cloche("rm", "nobody", "box", "-f")
    assert failed.returncode == 125 and failed.stdout == b"box\n" and b"nobody" in failed.stderr
    assert not node.sandboxes


def test_cp_of_tar_streams(node: StubNode, tmp_path: Path) -> None:
    cloche("create", "--name", "box")
    (tmp_path / "tree").mkdir()
    assert cloche("cp", f"{tmp_path}/tree/.", "box:/tree").returncode == 0
    assert cloche("cp", "box:/tree", "-").stdout == node.tars["/tree"]
    assert cloche("cp", "-", "box:/other", stdin=node.tars["/tree"]).returncode == 0
    assert cloche("cp", "a", "b").returncode == 125


def test_doctor_fails_when_nothing_is_usable(node: StubNode) -> None:
    engine = {"name": "namespace", "usable": False, "isolation": "namespace", "capabilities": {}}
    check = {
        "engine": "namespace",
        "id": "userns",
        "status": "missing",
        "summary": "none",
        "remedy": "sysctl x=1",
        "required": True,
    }
    node.answers["GET", "/v1/doctor"] = (200, {"checks": [check], "engines": [engine], "auto": None})
    done = cloche("doctor")
    assert done.returncode == 1 and b"sysctl x=1" in done.stdout
    assert json.loads(cloche("doctor", "--json").stdout)["auto"] is None


def test_node_status_starts_nothing(home: Path) -> None:
    done = cloche("node", "status")
    assert done.returncode == 1 and b"not running" in done.stdout
    assert not home.exists()
    assert cloche("node", "stop").returncode == 0
