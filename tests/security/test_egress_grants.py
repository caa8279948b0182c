"""What somebody allowed once, an acceptance, a budget: none of them reaches further than it was given."""

from __future__ import annotations

import os

import pytest

from cloche.egress.messages import Answer, Detach, SetPolicy
from cloche.model.egress import AcceptRule, EgressBudget, EgressPolicy, EgressRule
from tests.integration.dns_server import DnsServer
from tests.integration.door_guest import DoorProcess, StandInGuest, stand_in_guest
from tests.integration.door_world import WAIT, Upstream, echo, hello_http, upstream

LOOPBACK = ["127.0.0.0/8"]


@pytest.fixture(autouse=True)
def another_name(dns: DnsServer) -> None:
    dns.add("evil.test", "127.0.0.1")


def asking(server: Upstream, *hosts: str, **more: list[str]) -> EgressPolicy:
    ports = [str(server.port)]
    rule = EgressRule(action="ask", hosts=list(hosts), ports=ports, addresses=LOOPBACK, **more)  # type: ignore[arg-type]
    return EgressPolicy(rules=[rule])


def get(server: Upstream, host: str, path: str, method: str = "GET") -> bytes:
    return f"{method} http://{host}:{server.port}{path} HTTP/1.1\r\nHost: {host}:{server.port}\r\n\r\n".encode()


class TestAnswers:
    def test_are_about_one_host_of_a_proxys_client(self, door: DoorProcess, guest: StandInGuest) -> None:
        """The next request on the same connection to another host of the same rule is a question of its own."""
        with upstream(hello_http) as server:
            door.attach(guest, asking(server, "up.test", "evil.test"))
            stream = guest.proxy()
            stream.socket.sendall(get(server, "up.test", "/"))
            ask = door.event("egress_ask")
            assert ask["host"] == "up.test"
            door.ask(Answer, ask_id=ask["id"], verdict="once")
            assert b"GET / HTTP/1.1" in stream.until(b"test:%d" % server.port)
            stream.socket.sendall(get(server, "evil.test", "/steal"))
            ask = door.event("egress_ask")
            assert (ask["host"], server.count) == ("evil.test", 1)
            door.ask(Answer, ask_id=ask["id"], verdict="deny")
            assert b"HTTP/1.1 403" in stream.rest()

    def test_are_about_one_request_where_the_rule_is_about_requests(
        self, door: DoorProcess, guest: StandInGuest
    ) -> None:
        with upstream(hello_http) as server:
            door.attach(guest, asking(server, "up.test", methods=["GET", "DELETE"]))
            stream = guest.proxy()
            stream.socket.sendall(get(server, "up.test", "/harmless"))
            door.ask(Answer, ask_id=door.event("egress_ask")["id"], verdict="once")
            stream.until(b"test:%d" % server.port)
            stream.socket.sendall(get(server, "up.test", "/everything", "DELETE"))
            ask = door.event("egress_ask")
            assert (ask["method"], ask["path"]) == ("DELETE", "/everything")
            door.ask(Answer, ask_id=ask["id"], verdict="deny")
            assert b"HTTP/1.1 403" in stream.rest()

    def test_are_not_asked_for_twice_on_one_connection(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(hello_http) as server:
            door.attach(guest, asking(server, "up.test"))
            stream = guest.proxy()
            stream.socket.sendall(get(server, "up.test", "/a"))
            door.ask(Answer, ask_id=door.event("egress_ask")["id"], verdict="once")
            stream.until(b"test:%d" % server.port)
            stream.socket.sendall(get(server, "up.test", "/b"))
            assert b"GET /b HTTP/1.1" in stream.until(b"test:%d" % server.port)


class TestAcceptance:
    def accepting(self, *ports: str) -> EgressPolicy:
        return EgressPolicy(accept=[AcceptRule(sandboxes=["box"], ports=list(ports))])

    @pytest.mark.parametrize("port", [53, 15001, 15080, 15081])
    def test_does_not_lend_the_door(self, door: DoorProcess, guest: StandInGuest, port: int) -> None:
        """Behind these ports of the other sandbox is what leads out under its policy."""
        with upstream(echo) as server, stand_in_guest() as other:
            other.dialled = lambda port: ("127.0.0.1", server.port)
            door.attach(guest, EgressPolicy(rules=[EgressRule(hosts=["db.sandbox"], ports=["1-65535"])]))
            door.attach(other, self.accepting(), sandbox_id="sb_2", name="db")
            assert guest.connect("db.sandbox", port, "socks").answer()["code"] == "denied"
            assert guest.connect("db.sandbox", 5432, "socks").answer() == {"ok": True}
            assert server.accepted.acquire(timeout=WAIT) and server.count == 1

    def test_is_of_one_sandbox_and_not_of_one_whose_name_looks_like_it(
        self, door: DoorProcess, guest: StandInGuest
    ) -> None:
        with stand_in_guest() as real, stand_in_guest() as other:
            other.dialled = real.dialled = lambda port: ("127.0.0.1", 1)
            door.attach(other, self.accepting(), sandbox_id="sb_2", name="DB")
            door.attach(real, self.accepting(), sandbox_id="sb_3", name="db")
            door.attach(guest, EgressPolicy(rules=[EgressRule(hosts=["db.sandbox"], ports=["5432"])]))
            assert guest.connect("db.sandbox", 5432, "socks").answer()["message"] == "there is no such sandbox"

    def test_that_is_taken_back_ends_what_is_open(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server, stand_in_guest() as other:
            other.dialled = lambda port: ("127.0.0.1", server.port)
            door.attach(guest, EgressPolicy(rules=[EgressRule(hosts=["db.sandbox"], ports=["5432"])]))
            door.attach(other, self.accepting("5432"), sandbox_id="sb_2", name="db")
            stream = guest.connect("db.sandbox", 5432, "socks")
            assert stream.answer() == {"ok": True}
            stream.socket.sendall(b"x")
            assert stream.exactly(1) == b"x"
            door.ask(SetPolicy, sandbox_id="sb_2", policy=self.accepting("80"))
            assert stream.rest() == b""
            assert door.event("egress_revoked")["host"] == "db.sandbox"

    def test_ends_with_the_policy_of_who_accepted(self, door: DoorProcess, guest: StandInGuest) -> None:
        """A sandbox that is closed as a whole is not reached any more, over what is open either."""
        with upstream(echo) as server, stand_in_guest() as other:
            other.dialled = lambda port: ("127.0.0.1", server.port)
            door.attach(guest, EgressPolicy(rules=[EgressRule(hosts=["db.sandbox"], ports=["5432"])]))
            door.attach(other, self.accepting("5432"), sandbox_id="sb_2", name="db")
            stream = guest.connect("db.sandbox", 5432, "socks")
            assert stream.answer() == {"ok": True}
            stream.socket.sendall(b"x")
            assert stream.exactly(1) == b"x"
            door.ask(Detach, sandbox_id="sb_2")
            assert stream.rest() == b""
            assert door.event("egress_revoked")["host"] == "db.sandbox"


class TestBudget:
    def policy(self, server: Upstream, **budget: int) -> EgressPolicy:
        rule = EgressRule(hosts=["up.test"], ports=[str(server.port)], addresses=LOOPBACK)
        return EgressPolicy(rules=[rule], budget=EgressBudget(**budget))

    def test_of_bytes_is_not_exceeded_by_first_bytes(self, door: DoorProcess, guest: StandInGuest) -> None:
        """Each of many connections begins while there is a byte left, and has much to say at once."""
        got: list[bytes] = []

        def swallow(sock: object, _: Upstream) -> None:
            while data := sock.recv(65536):  # type: ignore[attr-defined]
                got.append(data)

        with upstream(swallow) as server:
            door.attach(guest, self.policy(server, bytes_out=1000))
            streams = [guest.connect("up.test", server.port) for _ in range(20)]
            for stream in streams:
                assert stream.answer() == {"ok": True}
            for stream in streams:
                stream.socket.sendall(b"\0" + os.urandom(8000))
            for stream in streams:
                stream.rest()
            door.detach_all()
        assert sum(map(len, got)) <= 1000
