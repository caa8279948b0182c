"""The node's end of the door, with a process in its place that says what it was told."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from cloche.egress.messages import Attach, GivenSecret
from cloche.egress.node_side import door_client, door_life, door_process
from cloche.egress.node_side.door_client import DoorClient
from cloche.egress.node_side.door_process import DoorSettings, environment
from cloche.egress.node_side.ingress_port import keep_port, kept_port
from cloche.model.egress import EgressCounters, EgressPolicy, Secret
from cloche.model.errors import InvalidError, UnavailableError
from tests.unit.egress.node_side import stub_door
from tests.unit.egress.node_side.stub_door import told

SOURCE = Path(door_client.__file__).parents[3]
SECRET = Secret(name="TOKEN", hosts=["api.example.com"])
ID = "sb_one"


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.news = asyncio.Event()
        self.inside: socket.socket | None = None

    def happened(self, message):
        self.events.append(message)
        self.news.set()

    def counted(self, message):
        self.events.append(message)
        self.news.set()

    async def stream(self, sandbox_id):
        self.inside, theirs = socket.socketpair()
        return theirs


@pytest.fixture
async def door(tmp_path, monkeypatch):
    monkeypatch.setattr(
        door_process, "command", lambda fd: [sys.executable, stub_door.__file__, "--control-fd", str(fd)]
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SOURCE), str(Path(stub_door.__file__).parents[4])]))
    client = DoorClient(DoorSettings(home=str(tmp_path)))
    client.heard = Heard()
    client.listen(client.heard)
    yield client
    await client.close()


def attach(name=None, **more) -> Attach:
    return Attach(id=0, sandbox_id=ID, name=name, policy=EgressPolicy(), **more)


def ops(home) -> list[object]:
    return [message["op"] for message in told(home)]


@pytest.mark.anyio
async def test_it_is_started_when_it_is_needed(door, tmp_path):
    assert door.state == "off"
    assert await door.ready() == "PEM"
    assert (door.state, ops(tmp_path)) == ("up", ["setup"])


@pytest.mark.anyio
async def test_what_is_said_arrives_in_order(door, tmp_path):
    await door.attach(attach())
    await door.set_policy(ID, None, [])
    assert await door.detach(ID) == EgressCounters(sent_bytes=11, received_bytes=12)
    assert ops(tmp_path) == ["setup", "attach", "setpolicy", "detach"]
    assert await door.detach(ID) is None


@pytest.mark.anyio
async def test_a_new_process_gets_everything_again_as_it_is_now(door, tmp_path):
    given = GivenSecret(secret=SECRET, placeholder="cloche-secret-1", value="hush")
    await door.attach(attach(secrets=[given]))
    await door.set_policy(ID, EgressPolicy(default="allow"), [given])
    await door.publish(ID, 8000, "8000-x", 0)
    await killed(door)
    await until_up(door)
    # an answer to something new comes behind those to what was told again
    await door.answer("ask", "deny")
    again = told(tmp_path)[4:]
    assert [message["op"] for message in again] == ["setup", "attach", "publish", "answer"]
    assert again[1]["policy"]["default"] == "allow"
    assert again[1]["secrets"][0]["value"] == "hush"
    assert again[2]["address_port"] == 40200


@pytest.mark.anyio
async def test_nobody_attached_and_it_is_not_started_again(door, tmp_path):
    await door.ready()
    await killed(door)
    await turned_off(door)
    assert ops(tmp_path) == ["setup"]
    assert await door.ready() == "PEM"


@pytest.mark.anyio
async def test_what_waits_for_an_answer_is_told_of_its_end(door):
    await door.attach(attach())
    os.kill(door.pid, signal.SIGSTOP)
    waiting = asyncio.ensure_future(door.answer("ask", "once"))
    await asyncio.sleep(0)
    os.kill(door.pid, signal.SIGKILL)
    with pytest.raises(UnavailableError):
        await waiting


@pytest.mark.anyio
async def test_a_door_that_does_not_start_is_an_error_that_says_where_to_look(door, tmp_path):
    (tmp_path / "refuse").touch()
    with pytest.raises(UnavailableError, match="before it was ready: refused") as failed:
        await door.ready()
    assert "door.log" in (failed.value.remedy or "")
    assert "refused" in (tmp_path / "logs" / "door.log").read_text()


@pytest.mark.anyio
async def test_what_could_not_be_attached_is_attached_when_the_door_comes(door, tmp_path):
    (tmp_path / "refuse").touch()
    with pytest.raises(UnavailableError):
        await door.attach(attach())
    (tmp_path / "refuse").unlink()
    await until_up(door)
    await door.answer("ask", "deny")
    assert ops(tmp_path)[-3:] == ["setup", "attach", "answer"]


@pytest.mark.anyio
async def test_a_program_that_is_missing_is_an_error(door, monkeypatch):
    monkeypatch.setattr(door_process, "command", lambda fd: ["/nonexistent/python"])
    with pytest.raises(UnavailableError, match="cannot be started"):
        await door.ready()


@pytest.mark.anyio
async def test_a_node_without_descriptors_starts_it_when_it_has_some_again(door, monkeypatch):
    makes = socket.socketpair

    def fails(*_):
        monkeypatch.setattr(socket, "socketpair", makes)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", fails)
    with pytest.raises(UnavailableError, match="Too many open files"):
        await door.attach(attach())
    await until_up(door)


@pytest.mark.anyio
async def test_the_listener_hears_of_those_that_are_attached(door):
    await door.attach(attach("talks"))
    while len(door.heard.events) < 2:
        door.heard.news.clear()
        await door.heard.news.wait()
    denied, counted = door.heard.events
    assert (denied.kind, denied.data) == ("egress_denied", {"host": "x.example"})
    assert counted.counters == EgressCounters(sent_bytes=5, received_bytes=6)


@pytest.mark.anyio
async def test_a_stream_to_a_guest_travels_as_a_descriptor(door):
    await door.attach(attach("streams"))
    await door.answer("ask", "deny")
    inside = door.heard.inside
    inside.setblocking(False)
    assert await asyncio.get_running_loop().sock_recv(inside, 100) == b"hello from the door"
    # the node has kept no copy of the other end
    assert await asyncio.get_running_loop().sock_recv(inside, 100) == b""
    inside.close()


@pytest.mark.anyio
async def test_a_port_that_somebody_else_has_is_another_one(door):
    await door.attach(attach())
    found = await door.publish(ID, 8000, "8000-x", 1)
    assert (found.ingress_port, found.address_port) == (40100, 40200)


@pytest.mark.anyio
async def test_what_is_too_large_is_refused_and_the_line_stays(door):
    await door.attach(attach())
    large = GivenSecret(secret=SECRET, placeholder="p", value="x" * 200_000)
    with pytest.raises(InvalidError):
        await door.set_policy(ID, None, [large])
    await door.answer("ask", "deny")


@pytest.mark.anyio
async def test_one_that_nobody_needs_any_more_ends_after_a_while(door, monkeypatch, tmp_path):
    monkeypatch.setattr(door_life, "REST_SECONDS", 0.0)
    await door.attach(attach())
    await door.detach(ID)
    await turned_off(door)
    await door.attach(attach())
    assert ops(tmp_path) == ["setup", "attach", "detach", "setup", "attach"]


@pytest.mark.anyio
async def test_one_that_is_needed_again_stays(door, monkeypatch, tmp_path):
    await door.attach(attach())
    await door.detach(ID)
    await door.attach(attach())
    door._life._rest.cancel()
    door._life._end_unneeded()
    await door.answer("ask", "deny")
    assert ops(tmp_path) == ["setup", "attach", "detach", "attach", "answer"]


@pytest.mark.anyio
async def test_its_end_is_waited_for(door):
    await door.attach(attach())
    pid = door.pid
    await door.close()
    assert not os.path.exists(f"/proc/{pid}")
    with pytest.raises(UnavailableError):
        await door.ready()


def test_it_sees_little_of_the_environment():
    given = {"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": "x", "SSL_CERT_FILE": "/ca", "PATH": "/bin",
             "AWS_SECRET_ACCESS_KEY": "hush", "CLOCHE_HOME": "/home", "GITHUB_TOKEN": "hush"}  # fmt: skip
    assert set(environment(given)) - {"PYTHONPATH"} == {"HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "PATH"}


def test_it_finds_the_package_from_another_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "lib") in environment({"PYTHONPATH": "lib"})["PYTHONPATH"].split(os.pathsep)


def test_the_port_of_the_last_door_is_remembered(tmp_path):
    assert kept_port(tmp_path) == 0
    keep_port(tmp_path, 40123)
    assert kept_port(tmp_path) == 40123
    for damaged in ("", "x", "99999", "-1", "4012312"):
        (tmp_path / "egress" / "ingress.port").write_text(damaged)
        assert kept_port(tmp_path) == 0


async def killed(door) -> None:
    line = door._life._line
    os.kill(door.pid, signal.SIGKILL)
    await line.lost.wait()


async def until_up(door) -> None:
    await door.ready()


async def turned_off(door) -> None:
    await door._life._keeper
    assert door.state == "off"
