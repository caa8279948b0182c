"""The inner end of the door in a real box, where the kernel sends it what programs do that know nothing of it; a stub
in the door's place. Which program it was is told, and user code never gets at the door's streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.door_stub import DoorStub, door
from tests.integration.guest_harness import Guest

OPEN = {"mode": "open", "proxy_env": True}
TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as stream:
    stream.sendall(b"through")
    stream.shutdown(socket.SHUT_WR)
    print(b"".join(iter(lambda: stream.recv(100), b"")).decode())
"""


@pytest.fixture
def inside(real_home: Path, sandbox: Sandbox) -> Guest:
    made = Guest(real_home / "run" / sandbox.id / "guest.sock")
    assert made.ask("PUT", "/v1/egress", OPEN)[0] == 204
    return made


@pytest.fixture
def stub(inside: Guest) -> Iterator[DoorStub]:
    with door(inside.path) as made:
        yield made


def test_everything_listens(inside: Guest) -> None:
    listeners = {each["name"]: each for each in inside.get("/v1/egress/attempts")["listeners"]}
    assert {"proxy", "socks", "dns"} <= set(listeners)
    assert not [each for each in listeners.values() if "error" in each]
    assert ("redirect" in listeners) == inside.get("/v1/health")["transparent_tcp"]
    assert listeners["dns"]["addresses"] == ["127.0.0.1:53"]


@pytest.mark.parametrize("to", ["example.com", "203.0.113.9", "2001:db8::9"])
def test_a_program_that_knows_no_proxy(sandbox: Sandbox, inside: Guest, stub: DoorStub, to: str) -> None:
    if not inside.get("/v1/health")["transparent_tcp"]:
        pytest.skip("this kernel does not redirect connections")
    done = sandbox.exec("python3", "-c", TALK, to, "8443")
    assert (done.stdout, done.stderr) == ("through\n", "")
    head = stub.heads[0]
    assert (head["kind"], head["host"], head["port"], head["via"]) == ("connect", to, 8443, "redirect")
    assert head.get("process", "python3").startswith("python3")


def test_code_may_listen_on_low_ports(sandbox: Sandbox) -> None:
    done = sandbox.exec("python3", "-c", "import socket; socket.create_server(('127.0.0.1', 80)); print('listens')")
    assert done.stdout == "listens\n", done.stderr


GRAB = """
import ctypes, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
said = {}
try:
    said["proc"] = os.listdir("/proc/1/fd")
except OSError as error:
    said["proc"] = error.errno
pidfd = libc.syscall(434, 1, 0)
said["getfd"] = [libc.syscall(438, pidfd, fd, 0) for fd in range(3, 64)]
said["ptrace"] = libc.ptrace(16, 1, 0, 0)
try:
    said["diag"] = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4).fileno()
except OSError as error:
    said["diag"] = -1
print(json.dumps(said))
"""


def test_code_does_not_get_at_the_streams_of_the_door(sandbox: Sandbox, stub: DoorStub) -> None:
    done = sandbox.exec("python3", "-c", GRAB)
    said = json.loads(done.stdout)
    assert said["proc"] == 13, said
    assert set(said["getfd"]) == {-1} and said["ptrace"] == -1 and said["diag"] == -1, said
    assert stub.heads == []


def test_what_was_tried_in_a_closed_box_is_remembered(sandbox: Sandbox, inside: Guest) -> None:
    assert inside.ask("PUT", "/v1/egress", {"mode": "closed"})[0] == 204
    for host in ("name.example", "203.0.113.9"):
        assert sandbox.exec("python3", "-c", TALK, host, "80").exit_code == 1
    tried = {(each["host"], each["port"]) for each in inside.get("/v1/egress/attempts")["attempts"]}
    assert ("name.example", 0) in tried
    assert not inside.get("/v1/health")["transparent_tcp"] or ("203.0.113.9", 80) in tried
