"""The door as a process: what is let through, what is not, and what the code, the node and the audit are told."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading

import pytest

from cloche.egress.messages import Answer, Detach, SetPolicy
from cloche.model.egress import AcceptRule, EgressBudget, EgressCounters, EgressPolicy, EgressRule
from tests.integration.dns_server import DnsServer
from tests.integration.door_guest import DoorProcess, GuestStream, StandInGuest, stand_in_guest
from tests.integration.door_world import (
    WAIT,
    Certificates,
    Tls,
    Upstream,
    echo,
    hello_http,
    tls_echo,
    upstream,
)

LOOPBACK = ["127.0.0.0/8", "::1/128"]


def allowing(*words: str, **more: object) -> EgressPolicy:
    """ "host" (web), or "host:port"."""
    rules = []
    for word in words:
        host, _, port = word.partition(":")
        rules.append(EgressRule(hosts=[host], ports=[port] if port else [], addresses=LOOPBACK, **more))  # type: ignore[arg-type]
    return EgressPolicy(rules=rules)


def web(server: Upstream, host: str = "up.test") -> EgressPolicy:
    """TLS and HTTP only, as a rule without ports has it, on this server's port."""
    rule = EgressRule(hosts=[host], ports=[str(server.port)], protocols=["tls", "http"], addresses=LOOPBACK)
    return EgressPolicy(rules=[rule])


def audit(door: DoorProcess) -> list[dict[str, object]]:
    """All lines; sandboxes and door end by it."""
    door.detach_all()
    door.close()
    path = door.home / "audit" / "egress.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return sorted(lines, key=lambda line: float(line["time"]))


def refusal(stream: GuestStream) -> dict[str, object]:
    """The JSON of an HTTP answer that the door gave in the place of a server."""
    head, _, body = stream.rest().partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    error["status"] = int(head.split()[1])
    assert isinstance(error, dict)
    return error


class TestCarrying:
    @pytest.mark.parametrize("via", ["redirect", "socks"])
    def test_bytes_both_ways_until_both_have_ended(self, door: DoorProcess, guest: StandInGuest, via: str) -> None:
        with upstream(echo) as server:
            door.attach(guest, allowing(f"up.test:{server.port}"))
            stream = guest.connect("up.test", server.port, via)
            assert stream.answer() == {"ok": True}
            assert stream.ask(b"hello") == b"hello"
        (line,) = audit(door)
        assert line["verdict"] == "allowed" and line["via"] == via and line["address"] == "127.0.0.1"
        assert (line["sent_bytes"], line["received_bytes"]) == (5, 5)

    def test_a_megabyte_of_half_closed_connection(self, door: DoorProcess, guest: StandInGuest) -> None:
        data = os.urandom(1 << 20)

        def later(sock: socket.socket, _: Upstream) -> None:
            found = b""
            while piece := sock.recv(65536):
                found += piece
            sock.sendall(found[::-1])

        with upstream(later) as server:
            door.attach(guest, allowing(f"up.test:{server.port}"))
            stream = guest.connect("up.test", server.port)
            assert stream.answer() == {"ok": True}
            assert stream.ask(data) == data[::-1]

    def test_a_server_that_speaks_first(self, door: DoorProcess, guest: StandInGuest) -> None:
        def greet(sock: socket.socket, server: Upstream) -> None:
            sock.sendall(b"220 hello\r\n")
            echo(sock, server)

        with upstream(greet) as server:
            door.attach(guest, allowing(f"up.test:{server.port}"))
            stream = guest.connect("up.test", server.port)
            assert stream.answer() == {"ok": True}
            assert stream.exactly(11) == b"220 hello\r\n"
            assert stream.ask(b"QUIT\r\n") == b"QUIT\r\n"

    def test_ipv6_is_dialled_and_ipv4_when_it_does_not_answer(
        self, door: DoorProcess, guest: StandInGuest, dns: DnsServer
    ) -> None:
        dns.add("up.test", "::1", kind="AAAA")
        door.attach(guest, EgressPolicy())
        for address in ("::1", "127.0.0.1"):
            with upstream(echo, address) as server:
                door.ask(SetPolicy, sandbox_id="sb_1", policy=allowing(f"up.test:{server.port}"))
                stream = guest.connect("up.test", server.port)
                assert stream.answer() == {"ok": True}
                assert stream.ask(b"x") == b"x"
        assert [line["address"] for line in audit(door)] == ["::1", "127.0.0.1"]

    def test_nobody_listens(self, door: DoorProcess, guest: StandInGuest) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            door.attach(guest, allowing(f"up.test:{port}"))
            answer = guest.connect("up.test", port, "socks").answer()
        assert answer == {"ok": False, "code": "failed", "message": "the connection was refused"}
        (line,) = audit(door)
        assert (line["verdict"], line["reason"]) == ("failed", "the connection was refused")

    def test_a_name_that_is_none(self, door: DoorProcess, guest: StandInGuest) -> None:
        door.attach(guest, allowing("nowhere.test:99"))
        answer = guest.connect("nowhere.test", 99, "socks").answer()
        assert answer["code"] == "failed" and "no such name" in answer["message"]

    def test_the_code_has_gone(self, door: DoorProcess, guest: StandInGuest) -> None:
        ended = threading.Event()

        def until_the_end(sock: socket.socket, _: Upstream) -> None:
            try:
                while sock.recv(65536):
                    sock.sendall(b"more")
            finally:
                ended.set()

        with upstream(until_the_end) as server:
            door.attach(guest, allowing(f"up.test:{server.port}"))
            stream = guest.connect("up.test", server.port)
            stream.socket.sendall(b"a")
            assert stream.answer() == {"ok": True}
            stream.close()
            assert ended.wait(WAIT)


class TestRefusing:
    def test_with_a_code_for_the_guest(self, door: DoorProcess, guest: StandInGuest, dns: DnsServer) -> None:
        door.attach(guest, allowing("up.test"))
        answer = guest.connect("other.test", 22, "socks", process="ssh", pid=7).answer()
        assert answer == {"ok": False, "code": "denied", "message": "no rule allows it"}
        assert dns.asked == []
        event = door.event("egress_denied")
        assert (event["host"], event["port"], event["process"]) == ("other.test", 22, "ssh")
        (line,) = audit(door)
        assert (line["verdict"], line["rule"], line["process"], line["pid"]) == ("denied", "default", "ssh", 7)

    def test_with_a_page_where_it_is_http(self, door: DoorProcess, guest: StandInGuest) -> None:
        door.attach(guest, allowing("up.test"))
        stream = guest.connect("other.test", 80)
        stream.socket.sendall(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
        assert stream.answer() == {"ok": True}
        error = refusal(stream)
        assert (error["status"], error["code"], error["rule"]) == (403, "egress_denied", "default")
        assert error["remedy"] == "cloche policy allow box other.test"

    def test_with_an_alert_where_it_is_tls(
        self, door: DoorProcess, guest: StandInGuest, authority: Certificates
    ) -> None:
        door.attach(guest, allowing("up.test"))
        stream = guest.connect("other.test", 443)
        Tls(authority.client(), "other.test", stream.socket.sendall)
        assert stream.answer() == {"ok": True}
        assert stream.rest() == b"\x15\x03\x03\x00\x02\x02\x31"

    def test_without_words_where_nothing_is_sent(self, door: DoorProcess, guest: StandInGuest) -> None:
        door.attach(guest, allowing("up.test"))
        assert guest.connect("other.test", 80).answer()["code"] == "denied"

    def test_raw_tcp_where_a_rule_means_the_web(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, web(server))
            stream = guest.connect("up.test", server.port)
            stream.socket.sendall(b"SSH-2.0-x\r\n")
            assert stream.answer()["code"] == "denied"
            # SOCKS is answered before anything can be seen
            stream = guest.connect("up.test", server.port, "socks")
            assert stream.answer() == {"ok": True}
            assert stream.ask(b"SSH-2.0-x\r\n") == b""
            assert server.accepted.acquire(timeout=WAIT) and server.count == 1

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "::1", "::ffff:127.0.0.1"])
    def test_this_machine_in_any_spelling(self, door: DoorProcess, guest: StandInGuest, host: str) -> None:
        with upstream(echo) as server:
            door.attach(guest, EgressPolicy(default="allow"))
            assert guest.connect(host, server.port, "socks").answer()["code"] == "denied"
            assert server.count == 0

    @pytest.mark.parametrize("host", ["a b", "a=b", "%00", "x" * 300, "a..b", "[::1", "0x", "1.2.3.4.5"])
    def test_what_is_no_host(self, door: DoorProcess, guest: StandInGuest, host: str) -> None:
        door.attach(guest, EgressPolicy(default="allow"))
        assert guest.connect(host, 80, "socks").answer()["code"] == "denied"
        assert guest.connect("nowhere.test", 80, "socks").answer()["code"] == "failed"


class TestNamesAndAddresses:
    def test_a_name_with_a_forbidden_address(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            rule = EgressRule(hosts=["up.test"], ports=[str(server.port)])
            door.attach(guest, EgressPolicy(rules=[rule]))
            answer = guest.connect("up.test", server.port, "socks").answer()
            assert answer["code"] == "denied" and "127.0.0.1" in answer["message"]
            assert server.count == 0
        (line,) = audit(door)
        assert (line["verdict"], line["rule"], line["address"]) == ("denied", "loopback address", "127.0.0.1")

    def test_the_remedy_for_a_forbidden_address_opens_that_address(
        self, door: DoorProcess, guest: StandInGuest, dns: DnsServer
    ) -> None:
        dns.add("metadata.test", ["169.254.169.254"])
        door.attach(guest, EgressPolicy(rules=[EgressRule(hosts=["*.test"])]))
        for name, remedy in (("up.test", "cloche policy allow box up.test@127.0.0.1"), ("metadata.test", None)):
            stream = guest.connect(name, 80)
            stream.socket.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            assert stream.answer() == {"ok": True}
            error = refusal(stream)
            assert (error["status"], error.get("remedy")) == (403, remedy)

    def test_only_allowed_ones_of_several_addresses_are_dialled(
        self, door: DoorProcess, guest: StandInGuest, dns: DnsServer
    ) -> None:
        dns.add("two.test", ["127.0.0.1", "127.0.0.2"])
        with upstream(echo) as server:
            rule = EgressRule(hosts=["two.test"], ports=[str(server.port)], addresses=["127.0.0.2/32"])
            door.attach(guest, EgressPolicy(rules=[rule]))
            assert guest.connect("two.test", server.port, "socks").answer()["code"] == "failed"
            assert server.count == 0

    def test_rebinding(self, door: DoorProcess, guest: StandInGuest, dns: DnsServer) -> None:
        """Checked is 127.0.0.2; who asks again is told 127.0.0.1, where the server is."""
        dns.add("twice.test", "127.0.0.2", "127.0.0.1")
        with upstream(echo) as server:
            rule = EgressRule(hosts=["twice.test"], ports=[str(server.port)], addresses=LOOPBACK)
            door.attach(guest, EgressPolicy(rules=[rule]))
            assert guest.connect("twice.test", server.port, "socks").answer()["code"] == "failed"
            assert server.count == 0
        assert dns.asked.count(("twice.test", "A")) == 1

    def test_a_rule_for_addresses_decides_what_a_name_is(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, EgressPolicy(rules=[EgressRule(cidrs=["127.0.0.1/32"], ports=[str(server.port)])]))
            for host in ("up.test", "127.0.0.1"):
                stream = guest.connect(host, server.port)
                assert stream.answer() == {"ok": True}
                assert stream.ask(b"x") == b"x"

    def test_an_address_that_stands_for_a_name(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, allowing(f"up.test:{server.port}"))
            stream = guest.connect("198.18.0.7", server.port, "socks")
            question = guest.hear()
            assert (question["op"], question["address"]) == ("name", "198.18.0.7")
            guest.say(op="named", id=question["id"], name="up.test")
            assert stream.answer() == {"ok": True}


class TestTls:
    def carried(
        self, door: DoorProcess, guest: StandInGuest, authority: Certificates, host: str, sni: str, via: str
    ) -> bytes:
        with upstream(tls_echo(authority.server("up.test", "other.test"))) as server:
            door.attach(guest, web(server))
            stream = guest.connect(host, server.port, via)
            if via == "socks":
                assert stream.answer() == {"ok": True}
            tls = Tls(authority.client(), sni, stream.socket.sendall)
            if via == "redirect":
                assert stream.answer() == {"ok": True}
            try:
                return tls.finish(stream.socket).ask(stream.socket, b"hello")
            except (EOFError, OSError) as error:
                return str(error).encode()

    @pytest.mark.parametrize("via", ["redirect", "socks"])
    def test_the_name_that_was_allowed(
        self, door: DoorProcess, guest: StandInGuest, authority: Certificates, via: str
    ) -> None:
        assert self.carried(door, guest, authority, "up.test", "up.test", via) == b"hello"
        (line,) = audit(door)
        assert (line["protocol"], line["tls"], line["verdict"]) == ("tls", "pass", "allowed")

    @pytest.mark.parametrize("via", ["redirect", "socks"])
    def test_another_name_in_the_hello(
        self, door: DoorProcess, guest: StandInGuest, authority: Certificates, via: str
    ) -> None:
        assert b"ACCESS_DENIED" in self.carried(door, guest, authority, "up.test", "other.test", via).upper()
        (line,) = audit(door)
        assert (line["verdict"], line["sni"]) == ("denied", "other.test")

    def test_no_name_in_the_hello(self, door: DoorProcess, guest: StandInGuest, authority: Certificates) -> None:
        context = authority.client()
        context.check_hostname = False
        with upstream(tls_echo(authority.server("up.test"))) as server:
            door.attach(guest, web(server))
            stream = guest.connect("up.test", server.port, "socks")
            assert stream.answer() == {"ok": True}
            tls = Tls(context, None, stream.socket.sendall)
            with pytest.raises((EOFError, OSError)):
                tls.finish(stream.socket)

    def test_an_encrypted_name(self, door: DoorProcess, guest: StandInGuest, authority: Certificates) -> None:
        hello = bytearray()
        Tls(authority.client(), "up.test", hello.extend)
        with upstream(echo) as server:
            door.attach(guest, web(server))
            stream = guest.connect("up.test", server.port)
            stream.socket.sendall(with_extension(bytes(hello), 0xFE0D, b"\0" * 16))
            assert stream.answer() == {"ok": True}
            assert stream.rest() == b"\x15\x03\x03\x00\x02\x02\x31"
            assert server.count == 0
        (line,) = audit(door)
        assert "ECH" in str(line["reason"])

    def test_an_encrypted_name_where_a_rule_says_so(
        self, door: DoorProcess, guest: StandInGuest, authority: Certificates
    ) -> None:
        hello = bytearray()
        Tls(authority.client(), "up.test", hello.extend)
        sent = with_extension(bytes(hello), 0xFE0D, b"\0" * 16)
        with upstream(echo) as server:
            door.attach(guest, allowing(f"up.test:{server.port}", encrypted_hello=True))
            stream = guest.connect("up.test", server.port)
            stream.socket.sendall(sent)
            assert stream.answer() == {"ok": True}
            assert stream.exactly(len(sent)) == sent

    def test_an_address_needs_no_name_but_a_denied_one_counts(
        self, door: DoorProcess, guest: StandInGuest, authority: Certificates
    ) -> None:
        with upstream(tls_echo(authority.server("up.test"))) as server:
            ports = [str(server.port)]
            rules = [
                EgressRule(action="deny", hosts=["up.test"], ports=ports),
                EgressRule(cidrs=["127.0.0.1/32"], ports=ports),
            ]
            door.attach(guest, EgressPolicy(rules=rules))
            context = authority.client()
            context.check_hostname = False
            for name, works in ((None, True), ("free.test", True), ("up.test", False)):
                stream = guest.connect("127.0.0.1", server.port, "socks")
                assert stream.answer() == {"ok": True}
                tls = Tls(context, name, stream.socket.sendall)
                if works:
                    assert tls.finish(stream.socket).ask(stream.socket, b"x") == b"x"
                else:
                    with pytest.raises((EOFError, OSError)):
                        tls.finish(stream.socket)


def with_extension(record: bytes, kind: int, data: bytes) -> bytes:
    """A hello in one record, with one more extension at its end."""
    extension = struct.pack(">HH", kind, len(data)) + data
    body = record[9:]
    position = 34
    position += 1 + body[position]
    position += 2 + int.from_bytes(body[position : position + 2], "big")
    position += 1 + body[position]
    length = int.from_bytes(body[position : position + 2], "big") + len(extension)
    body = body[:position] + struct.pack(">H", length) + body[position + 2 :] + extension
    message = record[5:6] + len(body).to_bytes(3, "big") + body
    return record[:3] + struct.pack(">H", len(message)) + message


class TestHttp:
    def test_each_request_of_a_redirected_connection_is_decided(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(hello_http) as server:
            door.attach(guest, web(server))
            stream = guest.connect("up.test", server.port)
            request = b"GET /a HTTP/1.1\r\nHost: up.test:%d\r\n\r\n" % server.port
            stream.socket.sendall(request)
            assert stream.answer() == {"ok": True}
            assert b"GET /a HTTP/1.1" in stream.ask(b"")
        (line,) = audit(door)
        assert (line["method"], line["path"], line["status"], line["verdict"]) == ("GET", "/a", 200, "allowed")

    def test_a_host_that_is_not_the_one(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(hello_http) as server:
            door.attach(guest, web(server))
            stream = guest.connect("up.test", server.port)
            stream.socket.sendall(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
            assert stream.answer() == {"ok": True}
            assert b"HTTP/1.1 4" in stream.rest()[:12]

    def test_by_the_proxy_port(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(hello_http) as server:
            door.attach(guest, web(server))
            stream = guest.proxy()
            site = f"up.test:{server.port}"
            asked = f"GET http://{site}/b HTTP/1.1\r\nHost: {site}\r\nConnection: close\r\n\r\n"
            stream.socket.sendall(asked.encode())
            assert b"GET /b HTTP/1.1" in stream.rest()
            stream = guest.proxy()
            stream.socket.sendall(b"GET http://no.test/ HTTP/1.1\r\nHost: no.test\r\n\r\n")
            assert refusal(stream)["code"] == "egress_denied"

    def test_connect(self, door: DoorProcess, guest: StandInGuest, authority: Certificates) -> None:
        with upstream(tls_echo(authority.server("up.test"))) as server:
            door.attach(guest, web(server))
            stream = guest.proxy()
            stream.socket.sendall(b"CONNECT up.test:%d HTTP/1.1\r\nHost: up.test\r\n\r\n" % server.port)
            answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
            assert stream.exactly(len(answer)) == answer
            tls = Tls(authority.client(), "up.test", stream.socket.sendall).finish(stream.socket)
            assert tls.ask(stream.socket, b"hello") == b"hello"
            stream = guest.proxy()
            stream.socket.sendall(b"CONNECT no.test:443 HTTP/1.1\r\nHost: no.test\r\n\r\n")
            error = refusal(stream)
            assert (error["status"], error["host"]) == (403, "no.test")
        assert {line["via"] for line in audit(door)} == {"proxy"}


class TestNamesOfTheStub:
    def test_only_what_could_be_reached_is_looked_up(
        self, door: DoorProcess, guest: StandInGuest, dns: DnsServer
    ) -> None:
        door.attach(guest, allowing("up.test", "absent.test"))
        assert guest.resolve("UP.test.") == "yes"
        assert guest.resolve("absent.test") == "no"
        assert guest.resolve("other.test") == "no"
        assert guest.resolve("bad..name") == "no"
        assert {name for name, _ in dns.asked} == {"up.test", "absent.test"}
        assert door.event("egress_denied")["host"] == "other.test"

    def test_other_records(self, door: DoorProcess, guest: StandInGuest, dns: DnsServer) -> None:
        import base64

        import dns.message as message
        import dns.rcode as rcode

        dns.add("up.test", '"hello"', kind="TXT")
        dns.truncated.add("up.test")
        door.attach(guest, allowing("up.test"))
        for name, code, records in (("up.test", rcode.NOERROR, 1), ("other.test", rcode.NXDOMAIN, 0)):
            query = message.make_query(name, "TXT")
            guest.say(op="query", id=5, message=base64.b64encode(query.to_wire()).decode())
            answer = message.from_wire(base64.b64decode(guest.hear()["message"]))
            assert (answer.id, answer.rcode(), len(answer.answer)) == (query.id, code, records)


class TestChangingThePolicy:
    def test_ends_what_is_open(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, allowing(f"up.test:{server.port}", "keep.test"))
            stream = guest.connect("up.test", server.port)
            assert stream.answer() == {"ok": True}
            stream.socket.sendall(b"x")
            assert stream.exactly(1) == b"x"
            door.ask(SetPolicy, sandbox_id="sb_1", policy=allowing("keep.test"))
            assert stream.rest() == b""
            assert door.event("egress_revoked")["host"] == "up.test"
            assert guest.connect("up.test", server.port, "socks").answer()["code"] == "denied"
        lines = audit(door)
        assert [line["verdict"] for line in lines] == ["revoked", "denied"]
        assert lines[0]["sent_bytes"] == 1

    def test_leaves_what_is_still_allowed(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, allowing(f"up.test:{server.port}"))
            stream = guest.connect("up.test", server.port)
            assert stream.answer() == {"ok": True}
            door.ask(SetPolicy, sandbox_id="sb_1", policy=allowing("other.test", f"up.test:{server.port}"))
            assert stream.ask(b"x") == b"x"

    def test_to_none(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, allowing(f"up.test:{server.port}"))
            stream = guest.connect("up.test", server.port)
            assert stream.answer() == {"ok": True}
            door.ask(SetPolicy, sandbox_id="sb_1", policy=None)
            assert stream.rest() == b""
            assert guest.connect("up.test", server.port, "socks").answer()["code"] == "denied"


class TestBudgets:
    def budgeted(self, server: Upstream, **budget: int) -> EgressPolicy:
        rules = allowing(f"up.test:{server.port}").rules
        return EgressPolicy(rules=rules, budget=EgressBudget(**budget))

    def test_bytes_out(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, self.budgeted(server, bytes_out=1000), counters=EgressCounters(sent_bytes=400))
            stream = guest.connect("up.test", server.port)
            stream.socket.sendall(b"\x00" * 600)
            assert stream.answer() == {"ok": True}
            assert len(stream.exactly(600)) == 600
            stream.socket.sendall(b"\x00")
            assert stream.rest() == b""
            assert door.event("egress_limit")["limit"] == "bytes_out"
            assert guest.connect("up.test", server.port, "socks").answer()["code"] == "limit"
        lines = audit(door)
        assert [line["verdict"] for line in lines] == ["limit", "limit"]
        assert lines[0]["sent_bytes"] == 600

    def test_bytes_in(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(lambda sock, _: sock.sendall(b"\x00" * 100_000)) as server:
            door.attach(guest, self.budgeted(server, bytes_in=5000))
            stream = guest.connect("up.test", server.port)
            assert stream.answer() == {"ok": True}
            assert len(stream.rest()) <= 5000
            assert door.event("egress_limit")["limit"] == "bytes_in"

    def test_connections_open_at_once(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, self.budgeted(server, connections=1))
            first = guest.connect("up.test", server.port)
            assert first.answer() == {"ok": True}
            stream = guest.connect("up.test", server.port)
            stream.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert stream.answer() == {"ok": True}
            error = refusal(stream)
            assert (error["status"], error["code"], error["limit"]) == (429, "egress_limit", "connections")
            assert first.ask(b"x") == b"x"

    def test_connections_in_a_minute(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, self.budgeted(server, connections_per_minute=2))
            for works in (True, True, False):
                assert guest.connect("up.test", server.port, "socks").answer()["ok"] is works

    def test_a_rate_slows_and_loses_nothing(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, self.budgeted(server, bytes_per_second=400_000))
            stream = guest.connect("up.test", server.port)
            assert stream.answer() == {"ok": True}
            data = os.urandom(100_000)
            assert stream.ask(data) == data

    def test_counters_at_the_end(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            before = EgressCounters(sent_bytes=100, received_bytes=50)
            door.attach(guest, allowing(f"up.test:{server.port}"), counters=before)
            stream = guest.connect("up.test", server.port)
            assert stream.answer() == {"ok": True}
            stream.ask(b"12345")
            assert guest.connect("no.test", 1, "socks").answer()["ok"] is False
            found = door.ask(Detach, sandbox_id="sb_1")
            assert (found["sent_bytes"], found["received_bytes"]) == (105, 55)
            assert (found["connections"], found["denied"]) == (2, 1)
            assert door.ask(Detach, sandbox_id="sb_1") == {}


class TestAsking:
    def policy(self, server: Upstream) -> EgressPolicy:
        rule = EgressRule(action="ask", hosts=["up.test"], ports=[str(server.port)], addresses=LOOPBACK)
        return EgressPolicy(rules=[rule])

    @pytest.mark.parametrize(("verdict", "ok"), [("once", True), ("always", True), ("deny", False)])
    def test_one_question_for_all_that_wait(
        self, door: DoorProcess, guest: StandInGuest, verdict: str, ok: bool
    ) -> None:
        with upstream(echo) as server:
            door.attach(guest, self.policy(server))
            waiting = [guest.connect("up.test", server.port, "socks", process="curl") for _ in range(3)]
            ask = door.event("egress_ask")
            assert (ask["host"], ask["port"], ask["process"]) == ("up.test", server.port, "curl")
            # each head is read by a task of its own: a question of the control stream comes behind all of them
            assert guest.resolve("up.test") == "yes"
            door.ask(Answer, ask_id=ask["id"], verdict=verdict)
            assert [stream.answer()["ok"] for stream in waiting] == [ok] * 3
            assert door.reply(Answer, ask_id=ask["id"], verdict=verdict).error is not None
            if verdict == "always":
                assert guest.connect("up.test", server.port, "socks").answer()["ok"] is True

    def test_a_new_policy_answers_too(self, door: DoorProcess, guest: StandInGuest) -> None:
        with upstream(echo) as server:
            door.attach(guest, self.policy(server))
            stream = guest.connect("up.test", server.port, "socks")
            door.event("egress_ask")
            door.ask(SetPolicy, sandbox_id="sb_1", policy=allowing(f"up.test:{server.port}"))
            assert stream.answer() == {"ok": True}
            assert stream.ask(b"x") == b"x"


class TestNeighbours:
    @pytest.mark.parametrize(
        ("accept", "project", "ok"),
        [
            ([AcceptRule(sandboxes=["box"], ports=["5000-6000"])], "", True),
            ([AcceptRule(sandboxes=["box"], ports=["80"])], "", False),
            ([AcceptRule(sandboxes=["other"])], "", False),
            ([], "", False),
            ([AcceptRule(sandboxes=["*"])], "p_2", False),
        ],
    )
    def test_both_sides_have_to_agree(
        self, door: DoorProcess, guest: StandInGuest, accept: list[AcceptRule], project: str, ok: bool
    ) -> None:
        with upstream(echo) as server, stand_in_guest() as other:
            other.dialled = lambda port: ("127.0.0.1", server.port)
            rule = EgressRule(hosts=["db.sandbox"], ports=["5432"])
            door.attach(guest, EgressPolicy(rules=[rule]))
            door.attach(other, EgressPolicy(accept=accept), sandbox_id="sb_2", name="db", project_id=project)
            stream = guest.connect("db.sandbox", 5432, "socks")
            assert stream.answer()["ok"] is ok
            if ok:
                assert stream.ask(b"hello") == b"hello"
            assert guest.connect("db.sandbox", 5433, "socks").answer()["code"] == "denied"

    def test_nothing_listens_there(self, door: DoorProcess, guest: StandInGuest) -> None:
        with stand_in_guest() as other:
            door.attach(guest, EgressPolicy(rules=[EgressRule(hosts=["db.sandbox"], ports=["1"])]))
            door.attach(other, EgressPolicy(accept=[AcceptRule(sandboxes=["*"])]), sandbox_id="sb_2", name="db")
            answer = guest.connect("db.sandbox", 1, "socks").answer()
            assert (answer["code"], answer["message"]) == ("failed", "nothing listens there")
