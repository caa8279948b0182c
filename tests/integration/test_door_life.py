"""The door between a node that may die, guests that come back or are hostile, and a machine behind a proxy."""

from __future__ import annotations

import base64
import os
import socket
import struct

import pytest

from cloche.egress.messages import Publish, SetPolicy, StreamReply, Unpublish
from cloche.model.egress import EgressPolicy, EgressRule
from tests.integration.dns_server import DnsServer
from tests.integration.door_fixtures import allowing, works
from tests.integration.door_guest import WAIT, DoorProcess, StandInGuest, door_process, stand_in_guest
from tests.integration.door_world import Upstream, echo, hello_http, upstream


class TestNode:
    def test_its_end_is_the_doors_end(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, allowing(server))
            stream = guest.connect("up.test", server.port)
            assert stream.answer() == {"ok": True}
            door.socket.shutdown(socket.SHUT_RDWR)
            assert door.process.wait(WAIT) == 0
            assert stream.rest() == b""

    def test_streams_through_the_node(self, door: DoorProcess, guest: StandInGuest) -> None:
        """As for guests in a virtual machine."""
        with upstream(echo) as server:
            door.attach(None, allowing(server))
            first = door.streams.get(timeout=WAIT)
            assert first.sandbox_id == "sb_1"
            door.send(StreamReply(id=first.id, error="it is still starting"))
            for _ in range(5):
                asked = door.streams.get(timeout=WAIT)
                with socket.socket(socket.AF_UNIX) as way:
                    way.connect(guest.path)
                    door.send(StreamReply(id=asked.id), [way.fileno()])
            works(guest, server)

    def test_replies_that_nobody_waits_for(self, door: DoorProcess, guest: StandInGuest) -> None:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                door.send(StreamReply(id=999), [theirs.fileno()])
            ours.settimeout(WAIT)
            assert ours.recv(1) == b""
        socket.send_fds(door.socket, [b'{"op":"future"}'], [])
        door.attach(guest, EgressPolicy())
        assert "does not know" in door.log()
        (door.home / "door.log").write_text("")

    def test_an_unknown_sandbox(self, door: DoorProcess) -> None:
        reply = door.reply(SetPolicy, sandbox_id="sb_9", policy=None)
        assert reply.error is not None and reply.error["error"]["code"] == "not_found"

    def test_a_policy_that_is_none(self, door: DoorProcess, guest: StandInGuest) -> None:
        door.attach(guest, EgressPolicy())
        wrong = EgressPolicy(rules=[EgressRule(preset="no-such-preset")])
        reply = door.reply(SetPolicy, sandbox_id="sb_1", policy=wrong)
        assert reply.error is not None and reply.error["error"]["code"] == "invalid"

    def test_no_core_and_a_session_of_its_own(self, door: DoorProcess) -> None:
        with open(f"/proc/{door.process.pid}/limits") as file:
            core = next(line for line in file if "core file" in line)
        assert core.split()[4:6] == ["0", "0"]
        assert os.getsid(door.process.pid) == door.process.pid

    def test_publishes(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            guest.dialled = lambda port: ("127.0.0.1", server.port)
            door.attach(guest, None)
            found = door.ask(Publish, sandbox_id="sb_1", port=8000, slug="8000-x")
            assert found["ingress_port"] == door.ready.ingress_port
            with socket.create_connection(("127.0.0.1", found["address_port"]), WAIT) as client:
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"
            door.ask(Unpublish, sandbox_id="sb_1", port=8000)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", found["address_port"]), WAIT)


class TestGuest:
    def test_comes_back_after_a_reset(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, allowing(server))
            works(guest, server)
            guest.reset()
            works(guest, server)

    def test_that_needs_more_streams(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, allowing(server))
            guest.say(op="need", streams=60)
            streams = [guest.connect("up.test", server.port) for _ in range(60)]
            assert [stream.answer()["ok"] for stream in streams] == [True] * 60
            assert {stream.ask(b"x") for stream in streams} == {b"x"}

    @pytest.mark.parametrize(
        "said",
        [
            struct.pack(">I", 5000) + b"x" * 5000,
            struct.pack(">I", 2) + b"[]",
            struct.pack(">I", 4) + b'"\xff"x',
            struct.pack(">I", 0),
            b"\xff\xff\xff\xff",
            struct.pack(">I", 100) + b'{"kind": "connect"',
            struct.pack(">I", 37) + b'{"kind":"connect","host":"a","port":9}',
        ],
    )
    def test_with_a_head_that_is_none(self, door: DoorProcess, guest: StandInGuest, said: bytes) -> None:
        with upstream(echo) as server:
            door.attach(guest, allowing(server))
            for _ in range(3):
                stream = guest.stream()
                stream.socket.sendall(said)
                stream.socket.shutdown(socket.SHUT_WR)
                assert stream.rest() == b""
            works(guest, server)

    @pytest.mark.parametrize(
        "said",
        [b"x" * 70_000 + b"\n", b"{}\n", b'{"op":"resolve","id":-1,"name":"a"}\n', b"\xff\xfe\n", b'{"op":"need"}\n'],
    )
    def test_with_control_lines_that_are_none(self, door: DoorProcess, guest: StandInGuest, said: bytes) -> None:
        with upstream(echo) as server:
            door.attach(guest, allowing(server))
            guest.control().sendall(said)
            guest.forget()
            guest.control()
            works(guest, server)

    def test_that_asks_and_never_reads(self, door: DoorProcess, guest: StandInGuest) -> None:
        """Its socket fills in both directions; others go on, and the door does not grow."""
        with upstream(echo) as server, stand_in_guest() as other:
            door.attach(guest, allowing(server))
            door.attach(other, allowing(server), sandbox_id="sb_2", name="other")
            control = guest.control()
            before = memory_kib(door)
            control.setblocking(False)
            line = b'{"op":"resolve","id":1,"name":"%s.test"}\n' % (b"a" * 60)
            for _ in range(2000):
                try:
                    control.send(line * 20)
                except BlockingIOError:
                    works(other, server)
                    break
            works(other, server)
            assert memory_kib(door) - before < 20_000

    def test_that_throws_its_streams_away(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server, stand_in_guest() as other:
            door.attach(guest, allowing(server))
            door.attach(other, allowing(server), sandbox_id="sb_2", name="other")
            for _ in range(20):
                guest.stream().close()
            works(other, server)
            works(guest, server)

    def test_with_messages_that_are_no_dns(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, allowing(server))
            for message in (b"", b"x", os.urandom(600), b"\0" * 12):
                guest.say(op="query", id=1, message=base64.b64encode(message).decode())
            assert guest.resolve("up.test", 2) == "yes"

    def test_that_never_reads_what_it_asked_for(self, door: DoorProcess, guest: StandInGuest) -> None:
        """Backpressure reaches the server, and nothing is kept."""

        def endless(sock: socket.socket, _: Upstream) -> None:
            while True:
                sock.sendall(b"\0" * 65536)

        with upstream(endless) as flood, upstream(echo) as server, stand_in_guest() as other:
            door.attach(guest, allowing(flood))
            door.attach(other, allowing(server), sandbox_id="sb_2", name="other")
            before = memory_kib(door)
            streams = [guest.connect("up.test", flood.port) for _ in range(4)]
            assert [stream.answer()["ok"] for stream in streams] == [True] * 4
            works(other, server)
            assert memory_kib(door) - before < 20_000


def memory_kib(door: DoorProcess) -> int:
    with open(f"/proc/{door.process.pid}/status") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1])


class TestBehindAProxy:
    def proxy(self, asked: list[bytes], to: Upstream | None) -> Upstream:
        def talk(sock: socket.socket, server: Upstream) -> None:
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            asked.append(head)
            if to is None:
                sock.sendall(b"HTTP/1.1 407 Who are you\r\n\r\n")
                return
            sock.sendall(b"HTTP/1.1 200 Fine\r\nX: y\r\n\r\n")
            with socket.create_connection(("127.0.0.1", to.port), WAIT) as outside:
                while data := sock.recv(65536):
                    outside.sendall(data)
                    sock.sendall(outside.recv(65536))

        return Upstream(talk)

    def test_names_are_the_proxys_to_resolve(self, dns: DnsServer, guest: StandInGuest) -> None:
        asked: list[bytes] = []
        with upstream(echo) as server:
            proxy = self.proxy(asked, server)
            environment = {
                "ALL_PROXY": f"http://user:pa%20ss@127.0.0.1:{proxy.port}",
                "no_proxy": "direct.test,10.0.0.0/8",
            }
            with door_process(environment, resolver=dns.address) as door:
                rule = EgressRule(hosts=["far.test"], ports=["5000"])
                direct = EgressRule(hosts=["direct.test"], ports=["5000"])
                door.attach(guest, EgressPolicy(default="deny", rules=[rule, direct]))
                stream = guest.connect("far.test", 5000)
                assert stream.answer() == {"ok": True}
                assert stream.ask(b"hello") == b"hello"
                assert guest.connect("direct.test", 5000, "socks").answer()["code"] == "failed"
                assert guest.connect("10.1.2.3", 5000, "socks").answer()["code"] == "denied"
            proxy.close()
        (head,) = asked
        secret = base64.b64encode(b"user:pa ss")
        assert head.startswith(b"CONNECT far.test:5000 HTTP/1.1\r\n")
        assert b"Proxy-Authorization: Basic " + secret in head
        assert {name for name, _ in dns.asked} == {"direct.test"}

    def test_its_refusal_is_told(self, dns: DnsServer, guest: StandInGuest) -> None:
        proxy = self.proxy([], None)
        with door_process({"HTTPS_PROXY": f"127.0.0.1:{proxy.port}"}, resolver=dns.address) as door:
            door.attach(guest, EgressPolicy(default="allow"))
            answer = guest.connect("far.test", 443, "socks").answer()
        proxy.close()
        assert answer == {"ok": False, "code": "failed", "message": "the upstream proxy answered 407"}


def test_http_of_a_redirected_connection_goes_on_after_the_first_request(
    door: DoorProcess, guest: StandInGuest
) -> None:
    with upstream(hello_http) as server:
        door.attach(guest, allowing(server))
        stream = guest.connect("up.test", server.port, "socks")
        assert stream.answer() == {"ok": True}
        request = b"GET /%%d HTTP/1.1\r\nHost: up.test:%d\r\n\r\n" % server.port
        for number in range(3):
            stream.socket.sendall(request % number)
            assert b"GET /%d " % number in stream.until(b"\r\n\r\n") + stream.socket.recv(4096)
        assert server.count == 1


class TestRequestsAndPolicies:
    def test_a_long_answer_ends_with_its_policy(self, door: DoorProcess, guest: StandInGuest) -> None:
        def endless(sock: socket.socket, _: Upstream) -> None:
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            sock.recv(1)

        with upstream(endless) as server:
            for sandbox_id, by_proxy in (("sb_1", True), ("sb_2", False)):
                site = f"up.test:{server.port}"
                with stand_in_guest() as guest:
                    door.attach(guest, allowing(server), sandbox_id=sandbox_id, name=sandbox_id)
                    if by_proxy:
                        stream = guest.proxy()
                        stream.socket.sendall(f"GET http://{site}/ HTTP/1.1\r\nHost: {site}\r\n\r\n".encode())
                    else:
                        stream = guest.connect("up.test", server.port)
                        stream.socket.sendall(f"GET / HTTP/1.1\r\nHost: {site}\r\n\r\n".encode())
                        assert stream.answer() == {"ok": True}
                    stream.until(b"hello")
                    door.ask(SetPolicy, sandbox_id=sandbox_id, policy=EgressPolicy())
                    assert door.event("egress_revoked")["host"] == "up.test"
                    assert b"\r\n0\r\n" not in stream.rest()
