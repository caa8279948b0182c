"""How a node lives and leaves: idleness, signals, its log, and the requests in between."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from pathlib import Path

import pytest

from tests.integration.node_harness import DEADLINE_SECONDS, ask, running_node


def stream(home: Path, target: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE_SECONDS)
    connection.connect(str(home / "node.sock"))
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: node\r\n\r\n".encode())
    return connection


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        part = connection.recv(65536)
        assert part, f"ended without {wanted!r}: {seen!r}"
        seen += part
    return seen


def test_an_idle_node_leaves(tmp_path: Path) -> None:
    with running_node(tmp_path / "home", "--idle-seconds", "0.2") as node:
        assert node.said["ready"]
        assert node.wait()[0] == 0
    assert not (tmp_path / "home" / "node.sock").exists()


def test_a_living_sandbox_keeps_the_node(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_node(home, "--idle-seconds", "0.2") as node:
        status, made = ask(home, "POST", "/v1/sandboxes", {"name": "keeper"})
        assert status == 201, made
        assert not ends_within(node.process.pid, 1.0)
        assert ask(home, "DELETE", "/v1/sandboxes/keeper?force=1")[0] == 204
        assert node.wait()[0] == 0


def ends_within(pid: int, seconds: float) -> bool:
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_gracefully(tmp_path: Path, number: int) -> None:
    home = tmp_path / "home"
    with running_node(home) as node, stream(home, "/v1/node/logs?follow=1") as follower:
        read_until(follower, b'"ready"')
        os.kill(node.process.pid, number)
        assert node.wait()[0] == 0
        while follower.recv(65536):
            pass
    assert not (home / "node.sock").exists()
    events = [json.loads(line)["event"] for line in (home / "node.log").read_text().splitlines()]
    assert events[-1] == "left"


def test_hanging_up_the_terminal_does_not_end_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_node(home) as node:
        os.kill(node.process.pid, signal.SIGHUP)
        assert ask(home, "GET", "/v1/health")[0] == 200


def test_it_leaves_when_it_is_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_node(home) as node:
        assert ask(home, "POST", "/v1/sandboxes", {})[0] == 201
        assert ask(home, "POST", "/v1/node/shutdown", {"stop_sandboxes": True})[0] == 202
        assert node.wait()[0] == 0


def test_a_request_in_flight_is_finished(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_node(home) as node:
        assert ask(home, "POST", "/v1/sandboxes", {"name": "box"})[0] == 201
        process = ask(home, "POST", "/v1/sandboxes/box/processes", {"argv": ["sleep", "0.5"]})[1]
        with stream(home, f"/v1/sandboxes/box/processes/{process['id']}/wait?timeout_seconds=20") as waiting:
            assert ask(home, "GET", "/v1/health")[0] == 200
            os.kill(node.process.pid, signal.SIGTERM)
            assert b'"state":"exited"' in read_until(waiting, b"usage")
        assert node.wait()[0] == 0


def test_the_log_says_nothing_of_what_was_sent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_node(home, CLOCHE_LOG_LEVEL="debug"):
        body = {"name": "box", "env": {"TOKEN": "hunter2"}, "session": {"env": {"OTHER": "hunter3"}}}
        assert ask(home, "POST", "/v1/sandboxes", body)[0] == 201
        ask(home, "PUT", "/v1/sandboxes/box/files/content?path=hunter4", body)
        ask(home, "POST", "/v1/sandboxes/box/processes", {"argv": ["echo", "hunter5"], "env": {"A": "hunter6"}})
        lines = ask(home, "GET", "/v1/node/logs?lines=1000")[1]
    assert b"hunter" not in lines
    events = [json.loads(line)["event"] for line in lines.splitlines()]
    assert "request" in events


def test_slow_callbacks_are_named_when_asked(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_node(home, CLOCHE_NODE_SLOW_CALLBACK_SECONDS="0"):
        ask(home, "GET", "/v1/health")
        assert b"took" in ask(home, "GET", "/v1/node/logs?lines=1000")[1]


def test_health_and_doctor(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_node(home) as node:
        health = ask(home, "GET", "/v1/health")[1]
        assert health["engine"] == "fake"
        assert (health["pid"], health["home"], health["api_version"]) == (node.process.pid, str(home), 1)
        report = ask(home, "GET", "/v1/doctor")[1]
    assert report["auto"] == "fake"
    assert {"python", "home", "kernel", "cgroups"} <= {check["id"] for check in report["checks"]}
    assert "fake" in [engine["name"] for engine in report["engines"]]
