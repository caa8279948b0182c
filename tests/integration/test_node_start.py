"""How a node comes to be: started by whoever needs it, once, and refused with a reason."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche.model.errors import NodeUnreachableError
from cloche.sdk import launch
from tests.integration.node_harness import (
    ask,
    end_node,
    environment,
    node_pid,
    run_client,
    running_node,
    wait_for_exit,
)

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as another user or to mount")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    yield tmp_path / "home"
    end_node(tmp_path / "home")


def test_ten_clients_at_once_start_one_node(home: Path) -> None:
    code = "import os, sys\nsys.stdin.readline()\nlaunch.ensure_node(home)\nprint(launch.listens(home))"
    script = f"from pathlib import Path\nfrom cloche.sdk import launch\nhome = Path({str(home)!r})\n{code}"
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", script], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(10)
    ]
    for client in clients:
        assert client.stdin
        client.stdin.write(b"\n")
        client.stdin.flush()
    assert [client.communicate(timeout=60)[0].strip() for client in clients] == [b"True"] * 10
    events = [json.loads(line)["event"] for line in ask(home, "GET", "/v1/node/logs?lines=1000")[1].splitlines()]
    assert events.count("ready") == 1


def test_a_killed_node_is_replaced_and_keeps_its_identity(home: Path) -> None:
    launch.ensure_node(home)
    before = ask(home, "GET", "/v1/health")[1]
    os.kill(before["pid"], signal.SIGKILL)
    wait_for_exit(before["pid"])
    assert (home / "node.sock").exists()
    assert not launch.listens(home)
    launch.ensure_node(home)
    after = ask(home, "GET", "/v1/health")[1]
    assert after["node_id"] == before["node_id"]
    assert after["pid"] != before["pid"]


def test_a_stopped_node_takes_its_socket_away(home: Path) -> None:
    launch.ensure_node(home)
    end_node(home)
    assert not (home / "node.sock").exists()
    launch.ensure_node(home)


def test_a_second_node_says_so_and_leaves(home: Path) -> None:
    launch.ensure_node(home)
    pid = node_pid(home)
    with running_node(home) as second:
        assert second.said["error"]["code"] == "already_exists"
        status, errors = second.wait()
    assert status == 3
    assert f"another node (pid {pid}) serves {home}" in errors
    assert node_pid(home) == pid


def test_a_node_that_still_leaves_is_waited_for(home: Path) -> None:
    """The lock is held, but nobody listens any more: a new node waits instead of giving up."""
    home.mkdir(mode=0o700)
    with (home / "node.lock").open("w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        client = run_client(home, "print(launch.ensure_node(home))")
        with pytest.raises(subprocess.TimeoutExpired):
            client.wait(timeout=1)
    out, errors = client.communicate(timeout=30)
    assert client.returncode == 0, errors
    assert out.decode().strip() == str(home / "node.sock")


def test_a_long_home_works(tmp_path: Path, home: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    try:
        assert len(str(launch.ensure_node(deep))) < 108
        assert ask(deep, "GET", "/v1/health")[1]["home"] == str(deep)
    finally:
        end_node(deep)


def test_the_clients_environment_stays_with_the_client(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("LD_PRELOAD_NOT", "x")
    launch.ensure_node(home)
    seen = Path(f"/proc/{node_pid(home)}/environ").read_bytes()
    assert b"hunter2" not in seen
    assert b"CLOCHE_ENGINE=fake" in seen


def test_the_node_is_detached(home: Path) -> None:
    launch.ensure_node(home)
    pid = node_pid(home)
    assert os.getsid(pid) == os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    for number, target in ((0, "/dev/null"), (1, "/dev/null"), (2, str(home / "node.log"))):
        assert os.readlink(f"/proc/{pid}/fd/{number}") == target
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] != str(os.getpid())


def test_the_launcher_is_quick_to_import() -> None:
    code = "import sys; before = set(sys.modules); import cloche.sdk.launch; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    heavy = {"msgspec", "uvicorn", "starlette", "httpcore", "asyncio", "subprocess", "uvloop", "sqlite3"}
    assert not heavy & set(loaded.stdout.split())


def test_somebody_elses_home_is_refused(home: Path) -> None:
    if os.geteuid() == 0:
        home.mkdir(mode=0o700)
        os.chown(home, 12345, 12345)
        with pytest.raises(NodeUnreachableError, match="uid 12345"):
            launch.ensure_node(home)
        with running_node(home) as node:
            assert node.said["error"]["code"] == "permission_denied"
            assert node.wait()[0] == 1
    else:
        with pytest.raises(NodeUnreachableError, match="uid 0"):
            launch.ensure_node(Path("/usr"))


def test_a_home_that_others_may_write_is_refused(home: Path) -> None:
    home.mkdir()
    home.chmod(0o777)
    with pytest.raises(NodeUnreachableError) as refused:
        launch.ensure_node(home)
    assert refused.value.details["reason"] == "permission_denied"
    assert "chmod 700" in (refused.value.remedy or "")


def test_a_wrong_setting_is_the_reason(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOCHE_LOG_LEVEL", "loud")
    with pytest.raises(NodeUnreachableError, match="CLOCHE_LOG_LEVEL"):
        launch.ensure_node(home)


def test_a_broken_database_is_the_reason_and_is_logged(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "cloche.db").write_bytes(b"this is no database " * 1000)
    with pytest.raises(NodeUnreachableError) as refused:
        launch.ensure_node(home)
    assert "database" in refused.value.message
    assert not (home / "node.sock").exists()
    assert "database" in (home / "node.log").read_text()


@root_only
def test_a_full_disk_is_the_reason(tmp_path: Path) -> None:
    """In a mount namespace of its own, so that nothing is left behind whatever happens."""
    home = tmp_path / "small"
    home.mkdir(mode=0o700)
    client = (
        "from pathlib import Path\nfrom cloche.sdk import launch\n"
        "from cloche.model.errors import NodeUnreachableError\n"
        f"try:\n    launch.ensure_node(Path({str(home)!r}))\n"
        "except NodeUnreachableError as error:\n    print(error.details.get('reason'), error.remedy)\n"
    )
    script = (
        f"mount -t tmpfs -o size=64k,mode=700 tmpfs {home} && "
        f'dd if=/dev/zero of={home}/fill bs=1k status=none 2>/dev/null; exec {sys.executable} -c "$CLIENT"'
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], env=environment(CLIENT=client), capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert done.stdout.startswith("no_space"), (done.stdout, done.stderr)
    assert "free some space" in done.stdout


@root_only
def test_another_user_is_cut_off() -> None:
    """With the socket opened up by mistake, the kernel's word for the peer still counts."""
    base = Path(tempfile.mkdtemp(prefix="cloche-peer-"))
    base.chmod(0o755)
    home = base / "home"
    try:
        with running_node(home) as node:
            assert node.said["ready"]
            home.chmod(0o711)
            (home / "node.sock").chmod(0o666)
            code = (
                "import os, socket, sys\nos.setgid(65534); os.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\n"
                "s.connect(sys.argv[1])\n"
                "try:\n    s.sendall(b'GET /v1/health HTTP/1.1\\r\\nHost: n\\r\\n\\r\\n'); print(s.recv(100))\n"
                "except ConnectionError:\n    print(b'')\n"
            )
            stranger = subprocess.run([sys.executable, "-c", code, str(home / "node.sock")], capture_output=True,
                                      text=True, timeout=30)  # fmt: skip
            assert stranger.stdout.strip() == "b''", stranger.stderr
            assert ask(home, "GET", "/v1/health")[0] == 200
        assert "peer_refused" in (home / "node.log").read_text()
    finally:
        shutil.rmtree(base)


def test_a_stale_socket_of_another_process_is_not_a_node(home: Path) -> None:
    home.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(home / "node.sock"))
    launch.ensure_node(home)
    assert ask(home, "GET", "/v1/health")[0] == 200
