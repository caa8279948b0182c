"""Ports and unix sockets of a real sandbox, reached from this machine: by the SDK, and by `cloche forward`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from cloche import AsyncSandbox, NotFoundError, Sandbox, UnavailableError
from cloche.model.errors import InvalidError, WrongStateError

#: answers with what it heard, upside down, when its client has finished; says when it listens
SERVER = """
import os, socket, socketserver, sys
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        heard = b""
        while data := self.request.recv(65536):
            heard += data
        self.request.sendall(heard[::-1])
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 18):
            self.request.sendall(data)
class TCP(socketserver.ThreadingTCPServer):
    request_queue_size = 256
    allow_reuse_address = True
class TCP6(TCP):
    address_family = socket.AF_INET6
class Unix(socketserver.ThreadingUnixStreamServer):
    pass
import threading
for server in (TCP(("127.0.0.1", 8000), Handler), TCP(("127.0.0.1", 8001), Echo), TCP6(("::1", 8002), Handler),
               Unix("/tmp/inside.sock", Handler)):
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def serving(real_home):
    with Sandbox.create() as made:
        server = made.spawn("python3", "-c", textwrap.dedent(SERVER))
        assert next(server.stdout) == b"ready\n"
        yield made


def upside_down(sock: socket.socket, data: bytes) -> bytes:
    with sock:
        sock.settimeout(30)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        heard = b""
        while piece := sock.recv(65536):
            heard += piece
        return heard


def at(address: str) -> socket.socket:
    if "/" in address:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
        return sock
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)))


def test_dial_carries_bytes_and_ends_one_direction_at_a_time(serving):
    for place in ({"port": 8000}, {"port": 8002}, {"port": 8002, "host": "::1"}, {"unix": "/tmp/inside.sock"}):
        with serving.dial(**place) as tunnel:
            tunnel.write(b"abc")
            tunnel.write(b"def")
            tunnel.write_eof()
            heard = b""
            while data := tunnel.read(2):
                assert len(data) <= 2
                heard += data
            assert heard == b"fedcba"


def test_closing_wakes_who_reads(serving):
    async def both():
        tunnel = await (await AsyncSandbox.from_id(serving.id)).dial(8001)
        reading = asyncio.create_task(tunnel.read())
        await tunnel.write(b"x")
        assert await reading == b"x"
        reading = asyncio.create_task(tunnel.read())
        await asyncio.sleep(0)
        await tunnel.aclose()
        await tunnel.aclose()
        return await asyncio.wait_for(asyncio.gather(reading, return_exceptions=True), 30)

    (heard,) = asyncio.run(both())
    assert heard == b"" or isinstance(heard, OSError)


def test_what_cannot_be_dialled_says_why(serving):
    for place, said in (
        ({"port": 1}, "nothing listens on port 1 in the sandbox"),
        ({"unix": "/tmp/none.sock"}, "nothing listens on the unix socket /tmp/none.sock in the sandbox"),
        ({"port": 8000, "host": "::1"}, "nothing listens on port 8000 of ::1 in the sandbox"),
    ):
        with pytest.raises(NotFoundError) as raised:
            serving.dial(**place)
        assert (raised.value.message, bool(raised.value.remedy)) == (said, True)
    for place in ({}, {"port": 1, "unix": "/x"}, {"port": 0}, {"port": 70000}):
        with pytest.raises(InvalidError):
            serving.dial(**place)


@pytest.mark.parametrize("host", ["10.0.0.1", "192.0.2.7", "2001:db8::1", "198.18.0.2", "db.example"])
def test_what_is_outside_is_not_dialled(serving, host):
    with pytest.raises(InvalidError, match="no address of the sandbox"):
        serving.dial(8000, host=host)


def test_a_local_port_leads_inside(serving):
    with serving.forward(8000) as forward:
        assert forward.address == f"127.0.0.1:{forward.port}"
        assert upside_down(at(forward.address), b"hello") == b"olleh"
        with pytest.raises(UnavailableError):
            serving.forward(8000, local_port=forward.port)
    with pytest.raises(ConnectionRefusedError):
        at(forward.address)
    forward.close()


def test_a_local_unix_socket_leads_inside_and_is_this_users(serving, tmp_path):
    path = str(tmp_path / "local.sock")
    with serving.forward(unix="/tmp/inside.sock", local_unix=path) as forward:
        assert forward.address == path
        assert os.stat(path).st_mode & 0o077 == 0
        assert upside_down(at(path), b"hello") == b"olleh"
    assert not os.path.exists(path)


def test_a_port_on_which_nobody_listens_resets_and_tells(serving):
    told: list[str] = []
    heard = threading.Event()
    with serving.forward(9) as forward:
        forward.on_failure = lambda error: (told.append(error.code), heard.set())
        with at(forward.address) as sock, pytest.raises(ConnectionResetError):
            sock.settimeout(30)
            sock.recv(1)
        assert heard.wait(30)
    assert told == ["not_found"]


def test_a_large_stream_passes_both_ways_at_once(serving):
    piece, count = os.urandom(1 << 16), 400
    with serving.forward(8001) as forward, at(forward.address) as sock:
        sock.settimeout(60)

        def send():
            for _ in range(count):
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        heard, size = hashlib.sha256(), 0
        while data := sock.recv(1 << 18):
            heard.update(data)
            size += len(data)
        sending.join()
    assert (size, heard.digest()) == (count << 16, hashlib.sha256(piece * count).digest())


def test_many_connections_at_once(serving):
    async def one(number, address):
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"%d!" % number)
        writer.write_eof()
        heard = await reader.read()
        writer.close()
        return heard

    async def all_of_them():
        box = await AsyncSandbox.from_id(serving.id)
        async with await box.forward(8000) as forward:
            return await asyncio.gather(*(one(number, forward.address) for number in range(100, 300)))

    assert asyncio.run(all_of_them()) == [b"!%s" % str(number)[::-1].encode() for number in range(100, 300)]


def test_closing_a_forward_ends_its_connections(serving):
    with serving.forward(8001) as forward:
        sock = at(forward.address)
        sock.settimeout(30)
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    with sock:
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass


def test_a_sandbox_that_stops_ends_them_too(real_home):
    with Sandbox.create() as box:
        server = box.spawn("python3", "-c", textwrap.dedent(SERVER))
        assert next(server.stdout) == b"ready\n"
        tunnel = box.dial(8001)
        tunnel.write(b"x")
        assert tunnel.read(1) == b"x"
        box.stop(grace_seconds=0.5)
        try:
            assert tunnel.read() == b""
        except ConnectionError:
            pass
        tunnel.close()
        with pytest.raises(WrongStateError):
            box.dial(8001)


class Command:
    """`cloche forward …`, running."""

    def __init__(self, *argv: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cloche.cli", "forward", *argv],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def test_the_command_forwards_until_it_is_interrupted(serving, tmp_path):
    local = str(tmp_path / "l.sock")
    with Command("--json", serving.id, "8000", f"{local}:8000", "8000") as command:
        found = json.loads(command.process.stdout.readline())["forwards"]
        assert [each["remote"] for each in found] == ["8000"] * 3
        assert found[1]["local"] == local
        for each in found:
            assert upside_down(at(each["local"]), b"hello") == b"olleh"
        assert command.end(signal.SIGINT) == 0
    assert not os.path.exists(local)


def test_the_command_says_where_it_listens_and_what_fails(serving, tmp_path):
    local = str(tmp_path / "l.sock")
    with Command("--unix", local, serving.id, "9") as command:
        assert command.process.stderr.readline() == f"{local} → 9\n"
        with at(local) as sock:
            sock.settimeout(30)
            assert sock.recv(1) == b""
        assert command.process.stderr.readline().startswith(
            "cloche: a connection was closed: nothing listens on port 9 in"
        )
        assert command.end(signal.SIGTERM) == 128 + signal.SIGTERM


def test_a_port_that_is_taken_is_told_with_a_way_out(serving):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Command(serving.id, f"{taken.getsockname()[1]}:8000") as command,
    ):
        assert "cannot listen on" in command.process.stderr.readline()
        assert command.process.stderr.readline().startswith(f"  try: cloche forward {serving.id} 8000")


@pytest.mark.parametrize("words", [["x"], ["0"], ["1:2:3"], ["65536"], ["--unix", "p", "1", "2"], ["1:"]])
def test_words_that_are_no_ports_are_refused(serving, words):
    with Command(serving.id, *words) as command:
        assert command.process.wait(30) == 125 or command.process.returncode == 2
