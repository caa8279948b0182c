"""Clients of `cloche mcp` that are wrong, hasty or dead, and what must not be left of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import pytest

from cloche import Sandbox
from cloche.sdk.values import SandboxInfo
from tests.integration.mcp_clients import DEADLINE_SECONDS, Wire, wire


@pytest.fixture
def server(real_home, tmp_path):
    with wire(real_home, tmp_path) as connection:
        connection.shake_hands()
        yield connection
    assert Sandbox.list() == []


def only_sandbox() -> SandboxInfo:
    (found,) = Sandbox.list()
    return found


def commands_in(found: SandboxInfo) -> list[str]:
    """Command lines of what runs inside now."""
    listed = Sandbox.from_id(found.id).exec("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    return listed.stdout.splitlines()


def begun(server: Wire, tool: str, **arguments: object) -> int:
    number = server.call(tool, progress=True, **arguments)
    server.until_progress("begun")
    return number


SLEEP = {
    "run_command": {"command": "echo begun; sleep 98765"},
    "execute_python_code": {"code": "import subprocess\nsubprocess.run(['sh', '-c', 'echo begun; exec sleep 98765'])"},
}


@pytest.mark.parametrize("tool", SLEEP)
def test_a_cancelled_call_ends_inside_too(server, tool):
    number = begun(server, tool, timeout=3000, **SLEEP[tool])
    assert "98765" in "".join(commands_in(only_sandbox()))
    server.cancel(number)
    # the answer to a later call in the same context comes only when the cancelled one has ended
    after = server.call(tool, **({"command": "true"} if tool == "run_command" else {"code": "1"}))
    answered = server.answers(after)
    assert answered[after]["result"]["structuredContent"]["success"]
    wait_inside = "while grep -lqs 98765 /proc/[0-9]*/comm /proc/[0-9]*/cmdline; do :; done"
    script = wait_inside.replace("98765", "9876[5]")
    assert Sandbox.from_id(only_sandbox().id).exec("sh", "-c", script, timeout_seconds=20).exit_code == 0


def test_cancelled_at_once(server):
    for _ in range(20):
        server.cancel(server.call("execute_python_code", code="1"))
        server.cancel(server.call("create_sandbox"))
    server.cancel(10**9)
    last = server.call("list_sandboxes")
    while server.receive().get("id") != last:
        pass


@pytest.mark.parametrize("tool", SLEEP)
def test_a_client_that_dies_in_mid_call_leaves_nothing(server, tool):
    begun(server, tool, timeout=3000, **SLEEP[tool])
    assert server.hang_up() == 0
    assert Sandbox.list() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(server, number):
    begun(server, "run_command", timeout=3000, **SLEEP["run_command"])
    server.process.send_signal(number)
    assert server.process.wait(DEADLINE_SECONDS) == 0
    assert Sandbox.list() == []


def test_a_signal_before_anything_was_said(real_home, tmp_path):
    with wire(real_home, tmp_path) as connection:
        connection.shake_hands()
        connection.process.send_signal(signal.SIGTERM)
        assert connection.process.wait(DEADLINE_SECONDS) == 0


def test_a_client_that_says_nothing(real_home, tmp_path):
    with wire(real_home, tmp_path) as connection:
        assert connection.hang_up() == 0


def test_a_server_that_is_killed_leaves_sandboxes_that_expire(real_home, tmp_path):
    with wire(real_home, tmp_path) as connection:
        connection.shake_hands()
        connection.answers(connection.call("create_sandbox"))
        connection.process.kill()
        connection.process.wait()
    with Sandbox.from_id(only_sandbox().id) as left:
        assert left.info().expires_at is not None


def test_lines_that_are_no_requests_harm_nobody(server):
    for line in (b"", b"nonsense", b"[]", b"\xff\xfe", b'{"jsonrpc": "2.0"}', b"[" * 100_000, b"null", b'{"id": 1}'):
        server.write(line + b"\n")
    server.send({"jsonrpc": "2.0", "method": "no/such"})
    refused = server.request("no/such", {})
    wrong = server.request("tools/call", {"name": 5})
    fine = server.call("list_sandboxes")
    found = server.answers(refused, wrong, fine)
    assert "error" in found[refused]
    assert "error" in found[wrong]
    assert found[fine]["result"]["structuredContent"]["count"] == 0


BAD: list[tuple[str, dict[str, object], str | None]] = [
    ("no_such_tool", {}, "not_found"),
    ("run_command", {}, "invalid"),
    ("run_command", {"command": ["ls"]}, "invalid"),
    ("run_command", {"command": "ls", "timeout": -1}, "invalid"),
    ("run_command", {"command": "ls", "workdir": "/nonexistent"}, None),
    ("run_command", {"command": "ls", "env": {"": "x"}}, "invalid"),
    ("run_command", {"command": "a\0b"}, "invalid"),
    ("run_command", {"command": "ls", "sandbox_id": "sb_" + "0" * 26}, "not_found"),
    ("run_command", {"command": "ls", "sandbox_id": "../../etc"}, "not_found"),
    ("run_command", {"command": "ls", "sandbox_id": "x" * 1000}, "invalid"),
    ("run_command", {"command": "ls", "sandbox_id": "🦀\n\x1b[2J"}, "not_found"),
    ("execute_python_code", {"code": "#" * (5 << 20)}, "invalid"),
    ("create_sandbox", {"name": "with space"}, "invalid"),
    ("create_sandbox", {"name": "quote'\"\n🦀"}, "invalid"),
    ("create_sandbox", {"name": "default"}, "invalid"),
    ("create_sandbox", {"name": "sb_looks_like_an_id"}, "invalid"),
    ("create_sandbox", {"memory_mib": 10**9}, "invalid"),
    ("remove_sandbox", {"sandbox_id": ""}, "invalid"),
    ("remove_sandbox", {}, "invalid"),
    ("read_file", {"path": "x", "offset": -1}, "invalid"),
    ("list_files", {"path": "/proc/1/root/../../nowhere"}, None),
]


def test_bad_arguments_are_answered_with_an_error_of_the_tool(server):
    wanted = {server.call(tool, **arguments): code for tool, arguments, code in BAD}
    found = {number: answer["result"] for number, answer in server.answers(*wanted).items()}
    told = {number: result["structuredContent"]["code"] for number, result in found.items()}
    assert {number: told[number] for number, code in wanted.items() if code} == {n: c for n, c in wanted.items() if c}
    assert all(found[number]["isError"] for number, code in wanted.items() if code)
    assert all(len(json.dumps(result)) < 20_000 for result in found.values())


def test_half_an_emoji_in_code(server):
    number = server.call("execute_python_code", code="print('\ud83d', '🦀')")
    assert server.answers(number)[number]["result"]["structuredContent"]["output"] == "? 🦀\n"


def test_bytes_that_are_no_text_in_every_answer(server):
    odd = "printf '\\377\\n'; printf '\\377' >&2; touch $(printf '\\377')"
    first = server.call("run_command", command=odd, progress=True)
    server.answers(first)
    second, third = server.call("list_files"), server.call("execute_python_code", code="'\\udc80'")
    found = server.answers(second, third)
    assert not any(answer["result"].get("isError") for answer in found.values())


@pytest.mark.slow
def test_a_thousand_quick_calls(server):
    first = server.call("execute_python_code", code="n = 0")
    server.answers(first)
    for _ in range(20):
        numbers = [server.call("execute_python_code", code="n += 1\nn") for _ in range(50)]
        found = server.answers(*numbers)
        assert all(answer["result"]["structuredContent"]["success"] for answer in found.values())
    last = server.call("execute_python_code", code="n")
    assert server.answers(last)[last]["result"]["structuredContent"]["result"] == "1000"


def test_a_client_that_does_not_read_does_not_hold_up_the_end(real_home, tmp_path):
    with wire(real_home, tmp_path) as connection:
        connection.shake_hands()
        begun(connection, "run_command", timeout=3000, **SLEEP["run_command"])
        for _ in range(300):
            connection.call("list_sandboxes", include_inactive=True)
        connection.process.send_signal(signal.SIGTERM)
        assert connection.process.wait(DEADLINE_SECONDS) == 0
    assert Sandbox.list() == []


def test_what_is_printed_does_not_reach_the_protocol(real_home, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import atexit\natexit.register(print, 'stray')\n")
    (tmp_path / ".env").write_text("DOCKER_IMAGE=python:3\nDEBUG=true\n")
    with wire(real_home, tmp_path) as connection:
        connection.shake_hands()
        number = connection.call("run_command", command="echo inside", progress=True)
        assert "inside" in str(connection.answers(number)[number])
        assert connection.process.stdin
        connection.process.stdin.close()
        with contextlib.suppress(AssertionError):
            while True:
                connection.receive()
    assert "DOCKER_IMAGE has no effect" in (tmp_path / "stderr").read_text()
    assert " DEBUG " in (tmp_path / "stderr").read_text()


def test_a_pipe_in_the_place_of_the_settings_file_holds_up_nothing(real_home, tmp_path):
    os.mkfifo(tmp_path / ".env")
    with wire(real_home, tmp_path) as connection:
        connection.shake_hands()
        assert connection.hang_up() == 0


def test_a_wrong_setting_is_told_on_stderr(real_home, tmp_path):
    with wire(real_home, tmp_path, MAX_SANDBOXES="many") as connection:
        assert connection.process.wait(DEADLINE_SECONDS) == 125
        assert connection.process.stdout
        assert connection.process.stdout.read() == b""
    assert "MAX_SANDBOXES" in (tmp_path / "stderr").read_text()
