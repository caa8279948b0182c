"""The inner end of the door of a real guest, with a stub in the door's place: whatever code sends out reaches it with
the name of where it wants to go, and nothing that either side does harms the other."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest

from tests.integration.door_stub import Arrived, DoorStub, door
from tests.integration.guest_harness import BINARY, Guest, guest, has

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="the guest is not built")
SECONDS = 30.0
GIVEN = ipaddress.ip_network("198.18.0.0/15")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Guest]:
    with guest(tmp_path, CLOCHE_DOOR_PORTS="any") as served:
        yield served


@pytest.fixture
def open_box(box: Guest) -> Guest:
    assert box.ask("PUT", "/v1/egress", {"mode": "open", "proxy_env": True})[0] == 204
    return box


def listener(box: Guest, name: str) -> tuple[str, int]:
    found = [each for each in box.get("/v1/egress/attempts")["listeners"] if each["name"] == name]
    assert "error" not in found[0], found
    host, _, port = found[0]["addresses"][0].rpartition(":")
    return host, int(port)


def dialled(box: Guest, name: str) -> socket.socket:
    return socket.create_connection(listener(box, name), timeout=SECONDS)


def through_socks(box: Guest, host: bytes, port: int) -> socket.socket:
    client = dialled(box, "socks")
    client.sendall(b"\5\1\0")
    assert exactly(client, 2) == b"\5\0"
    client.sendall(b"\5\1\0\3" + bytes([len(host)]) + host + struct.pack(">H", port))
    assert exactly(client, 10)[1] == 0
    return client


def lookup(box: Guest, name: str, kind: str = "A", **how: Any) -> dns.message.Message:
    host, port = listener(box, "dns")
    return dns.query.udp(dns.message.make_query(name, kind, **how), host, timeout=SECONDS, port=port)


def attempts(box: Guest) -> list[tuple[str, int, str]]:
    return [(each["host"], each["port"], each["protocol"]) for each in box.get("/v1/egress/attempts")["attempts"]]


def read_all(stream: socket.socket) -> bytes:
    return b"".join(iter(lambda: stream.recv(1 << 16), b""))


def exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        assert piece, data
        data += piece
    return data


def close_at_once(stream: socket.socket) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


# --- what code sends out


def test_a_socks_client_reaches_the_door_by_name(open_box: Guest) -> None:
    with door(open_box.path) as stub, through_socks(open_box, b"Example.COM", 8443) as client:
        client.sendall(b"there and back")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"there and back"
        head = {key: stub.heads[0][key] for key in ("kind", "host", "port", "via")}
        assert head == {"kind": "connect", "host": "example.com", "port": 8443, "via": "socks"}


def test_it_is_said_which_program_connects_or_nothing(open_box: Guest) -> None:
    """It looks for 2 ms, which on this machine need not be enough."""
    with door(open_box.path) as stub, through_socks(open_box, b"example.com", 80):
        own_name = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
        assert (stub.heads[0].get("pid"), stub.heads[0].get("process")) in {(os.getpid(), own_name), (None, None)}


@pytest.mark.skipif(not has("curl"), reason="no curl in /usr/bin")
@pytest.mark.parametrize("option", ["--socks5-hostname", "--proxy"])
def test_curl(open_box: Guest, option: str) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes"

    def serve(arrived: Arrived) -> None:
        arrived.answer()
        assert b"example.com" in arrived.stream.recv(1 << 16)
        arrived.stream.sendall(said)
        arrived.stream.shutdown(socket.SHUT_WR)
        read_all(arrived.stream)

    host, port = listener(open_box, "proxy" if option == "--proxy" else "socks")
    with door(open_box.path, serve=serve) as stub:
        done = subprocess.run(["curl", "-sS", "-m", "30", option, f"{host}:{port}", "http://example.com/"],
                              capture_output=True, env={}, check=True)  # fmt: skip
        assert done.stdout == b"yes"
        assert stub.heads[0]["kind"] == ("proxy" if option == "--proxy" else "connect")


def test_a_refused_socks_client_is_told_why(open_box: Guest) -> None:
    def refuse(arrived: Arrived) -> None:
        arrived.answer({"ok": False, "code": "denied", "message": "no rule"})

    with door(open_box.path, serve=refuse), dialled(open_box, "socks") as client:
        client.sendall(b"\5\1\0\5\1\0\3\3a.b\0\x50")
        assert exactly(client, 12) == b"\5\0\5\2\0\1" + bytes(6)
        assert client.recv(1) == b""


def test_each_direction_ends_by_itself(open_box: Guest) -> None:
    ended = threading.Event()

    def serve(arrived: Arrived) -> None:
        arrived.answer()
        arrived.stream.sendall(b"first")
        arrived.stream.shutdown(socket.SHUT_WR)
        assert read_all(arrived.stream) == b"still heard"
        ended.set()

    with door(open_box.path, serve=serve), through_socks(open_box, b"example.com", 80) as client:
        assert read_all(client) == b"first"
        client.sendall(b"still heard")
        client.shutdown(socket.SHUT_WR)
        assert ended.wait(SECONDS)


def test_what_the_door_gives_up_breaks_for_the_code(open_box: Guest) -> None:
    with door(open_box.path, serve=lambda arrived: arrived.answer()) as stub:
        client = through_socks(open_box, b"example.com", 80)
        stub.wait(lambda: len(stub.heads) == 1)
        assert client.recv(1) == b""
        with pytest.raises(OSError):
            while True:
                client.sendall(b"to nobody")
        client.close()


def test_what_the_code_gives_up_ends_for_the_door(open_box: Guest) -> None:
    gone = threading.Event()

    def serve(arrived: Arrived) -> None:
        arrived.answer()
        with contextlib.suppress(OSError):
            read_all(arrived.stream)
        gone.set()

    with door(open_box.path, serve=serve):
        close_at_once(through_socks(open_box, b"example.com", 80))
        assert gone.wait(SECONDS)


def test_many_bytes_both_ways_at_once(open_box: Guest) -> None:
    size, block = 64 << 20, bytes(range(256)) * 256
    with door(open_box.path), through_socks(open_box, b"example.com", 80) as client:

        def send() -> None:
            for _ in range(size // len(block)):
                client.sendall(block)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = 0
        while data := client.recv(1 << 18):
            expected = block[received % 256 :] + block * (len(data) // len(block) + 1)
            assert data == expected[: len(data)]
            received += len(data)
        sender.join()
        assert received == size


def test_two_hundred_at_once(open_box: Guest) -> None:
    """Many more than are parked: the guest says how many wait, and each gets its own."""
    together = threading.Barrier(200)

    def one(number: int) -> bool:
        with through_socks(open_box, f"host-{number}.example".encode(), 80) as client:
            together.wait(SECONDS)
            client.sendall(str(number).encode())
            client.shutdown(socket.SHUT_WR)
            return read_all(client) == str(number).encode()

    with door(open_box.path, refill=False) as stub, ThreadPoolExecutor(200) as clients:
        assert all(clients.map(one, range(200)))
        assert {head["host"] for head in stub.heads} == {f"host-{number}.example" for number in range(200)}
        assert any(word["op"] == "need" for word in stub.words)


# --- names


def test_an_allowed_name_has_an_address_that_means_it(open_box: Guest) -> None:
    with door(open_box.path) as stub:
        address = lookup(open_box, "Example.com").answer[0][0].address
        assert ipaddress.ip_address(address) in GIVEN
        assert lookup(open_box, "example.com").answer[0][0].address == address
        assert stub.ask_name(address) == "example.com"
        assert stub.ask_name("198.18.0.1") is None
        again = lookup(open_box, dns.reversename.from_address(address).to_text(), "PTR")
        assert again.answer[0][0].target.to_text() == "example.com."
        with through_socks(open_box, address.encode(), 80):
            assert stub.heads[0]["host"] == "example.com"


@pytest.mark.parametrize("kind", ["AAAA", "HTTPS", "SVCB"])
def test_an_allowed_name_has_nothing_else(open_box: Guest, kind: str) -> None:
    with door(open_box.path):
        answer = lookup(open_box, "example.com", kind)
        assert answer.rcode() == dns.rcode.NOERROR and not answer.answer


@pytest.mark.parametrize(("verdict", "code"), [("no", dns.rcode.NXDOMAIN), ("fail", dns.rcode.SERVFAIL)])
def test_other_verdicts(open_box: Guest, verdict: str, code: int) -> None:
    with door(open_box.path, resolve=lambda name: verdict):
        assert lookup(open_box, "example.com").rcode() == code
        assert lookup(open_box, "example.com", "AAAA").rcode() == code


def test_a_verdict_is_asked_for_each_time(open_box: Guest) -> None:
    verdicts = ["yes", "no"]
    with door(open_box.path, resolve=lambda name: verdicts.pop(0)):
        assert lookup(open_box, "example.com").rcode() == dns.rcode.NOERROR
        assert lookup(open_box, "example.com").rcode() == dns.rcode.NXDOMAIN


def test_questions_of_other_types_are_the_doors(open_box: Guest) -> None:
    def answer(query: dns.message.Message) -> dns.message.Message:
        made = dns.message.make_response(query)
        texts = " ".join(f'"{"x" * 200}"' for _ in range(10))
        made.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "TXT", texts))
        return made

    host, port = listener(open_box, "dns")
    with door(open_box.path, query=answer):
        whole, over_tcp = dns.query.udp_with_fallback(
            dns.message.make_query("example.com", "TXT"), host, timeout=SECONDS, port=port)  # fmt: skip
        assert over_tcp and len(whole.answer[0][0].strings) == 10
        large = lookup(open_box, "example.com", "TXT", use_edns=0, payload=4096)
        assert len(large.answer[0][0].strings) == 10


def test_edns_is_answered_and_any_is_refused(open_box: Guest) -> None:
    with door(open_box.path):
        answer = lookup(open_box, "example.com", use_edns=0, payload=4096)
        assert answer.edns == 0 and answer.answer
        assert lookup(open_box, "example.com", "ANY").rcode() == dns.rcode.REFUSED


def test_localhost_needs_nobody(box: Guest) -> None:
    assert lookup(box, "localhost").answer[0][0].address == "127.0.0.1"
    assert lookup(box, "x.localhost", "AAAA").answer[0][0].address == "::1"
    assert attempts(box) == []


def test_nonsense_over_dns_harms_nobody(open_box: Guest) -> None:
    host, port = listener(open_box, "dns")
    loop = b"\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nonsense, door(open_box.path):
        for packet in (b"", b"\0", bytes(12), b"\xff" * 60000, loop, loop[:12] + b"\x3f" * 300, bytes(range(256))):
            nonsense.sendto(packet, (host, port))
        assert lookup(open_box, "example.com").answer
    for length in (0, 5, 65535):
        with dialled(open_box, "dns") as client:
            client.sendall(struct.pack(">H", length))
            assert client.recv(1) == b""


# --- a door that is closed, or not there


def test_a_closed_sandbox_refuses_and_remembers(box: Guest) -> None:
    assert lookup(box, "name.example").rcode() == dns.rcode.NXDOMAIN
    with dialled(box, "socks") as client:
        client.sendall(b"\5\1\0\5\1\0\3\x0dsocks.example\x01\xbb")
        assert exactly(client, 12)[3] == 2
    proxy = http.client.HTTPConnection(*listener(box, "proxy"), timeout=SECONDS)
    proxy.request("GET", "http://proxy.example:8080/")
    answer = proxy.getresponse()
    assert answer.status == 403 and json.loads(answer.read())["error"]["code"] == "egress_denied"
    proxy.close()
    assert attempts(box) == [("name.example", 0, "dns"), ("socks.example", 443, "tcp"), ("proxy.example", 8080, "tcp")]


def test_it_can_be_closed_again(open_box: Guest) -> None:
    with door(open_box.path):
        assert lookup(open_box, "example.com").answer
        assert open_box.ask("PUT", "/v1/egress", {"mode": "closed"})[0] == 204
        assert lookup(open_box, "example.com").rcode() == dns.rcode.NXDOMAIN


def test_without_a_door_names_fail_and_clients_are_told(open_box: Guest) -> None:
    """Each of them waits for a door that may come, side by side."""
    with ThreadPoolExecutor(1) as pool:
        looked_up = pool.submit(lookup, open_box, "example.com")
        proxy = http.client.HTTPConnection(*listener(open_box, "proxy"), timeout=SECONDS)
        proxy.request("GET", "http://example.com/")
        answer = proxy.getresponse()
        assert answer.status == 503 and json.loads(answer.read())["error"]["code"] == "unavailable"
        proxy.close()
        assert looked_up.result().rcode() == dns.rcode.SERVFAIL


def test_who_waits_is_served_by_the_door_that_comes(open_box: Guest) -> None:
    with dialled(open_box, "socks") as client:
        client.sendall(b"\5\1\0\5\1\0\3\3a.b\0\x50")
        with door(open_box.path, parked=0):
            assert exactly(client, 12)[3] == 0


def test_a_door_that_dies_is_replaced(open_box: Guest) -> None:
    first = DoorStub(open_box.path)
    client = through_socks(open_box, b"example.com", 80)
    first.close()
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    client.close()
    with door(open_box.path), through_socks(open_box, b"example.com", 80) as client:
        client.sendall(b"again")
        assert exactly(client, 5) == b"again"


def test_a_second_control_stream_takes_over(open_box: Guest) -> None:
    first = DoorStub(open_box.path, resolve=lambda name: "no")
    with door(open_box.path):
        assert lookup(open_box, "example.com").answer
        first.close()
        assert lookup(open_box, "example.com").answer


def test_streams_need_a_control_stream_and_the_right_protocol(box: Guest) -> None:
    assert box.ask("POST", "/v1/door")[1]["error"]["code"] == "invalid"
    with pytest.raises(AssertionError, match="409"):
        upgrade(box, "/v1/door")


def upgrade(box: Guest, target: str) -> None:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(box.path))
        stream.sendall(
            b"POST %s HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: cloche-door\r\n\r\n" % target.encode()
        )
        answer = stream.recv(12)
        assert answer == b"HTTP/1.1 101", answer


# --- clients that mean no good


def test_clients_that_say_nothing_are_nobodys_loss(open_box: Guest) -> None:
    with contextlib.ExitStack() as idle, door(open_box.path):
        for name in ("socks", "dns", "socks", "dns"):
            for _ in range(50):
                idle.enter_context(dialled(open_box, name))
        with through_socks(open_box, b"example.com", 80) as client:
            client.sendall(b"served")
            assert exactly(client, 6) == b"served"


def test_more_connections_than_it_takes_are_reset(open_box: Guest) -> None:
    with contextlib.ExitStack() as idle:
        at = listener(open_box, "socks")
        for _ in range(1100):
            client = idle.enter_context(socket.socket())
            client.settimeout(SECONDS)
            with contextlib.suppress(ConnectionResetError):
                client.connect(at)
                client.sendall(b"\5")
        assert open_box.get("/v1/health")["api_version"] == 1
    with door(open_box.path), through_socks_patiently(open_box) as client:
        client.sendall(b"served")
        assert exactly(client, 6) == b"served"


def through_socks_patiently(box: Guest) -> socket.socket:
    """The guest notices that its clients have gone one by one."""
    pause = threading.Event()
    for _ in range(500):
        with contextlib.suppress(OSError, AssertionError, IndexError):
            return through_socks(box, b"example.com", 80)
        pause.wait(0.01)
    raise AssertionError("no connection is taken any more")


# --- settings


@pytest.mark.parametrize(("body", "field"), [
    ({"mode": "ajar"}, "mode"), ({}, "mode"), ({"mode": "open", "authority_pem": "no"}, "authority_pem"),
    ({"mode": "open", "placeholders": {"A=": "x"}}, "placeholders"), ({"mode": "open", "more": 1}, "more"),
])  # fmt: skip
def test_wrong_settings(box: Guest, body: dict[str, object], field: str) -> None:
    status, refusal = box.ask("PUT", "/v1/egress", body)
    assert (status, refusal["error"]["details"]["field"]) == (422, field)


def environment(box: Guest, **env: str) -> dict[str, str]:
    status, started = box.ask("POST", "/v1/processes", {"argv": ["env", "-0"], "env": env})
    assert status == 201, started
    ended = box.get(f"/v1/processes/{started['id']}/wait")
    assert ended["exit_code"] == 0
    return dict(line.split("=", 1) for line in output(box, started["id"]).split("\0") if line)


def output(box: Guest, process: str) -> str:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(box.path))
        stream.sendall(f"GET /v1/processes/{process}/output HTTP/1.0\r\nHost: g\r\n\r\n".encode())
        frames = read_all(stream).partition(b"\r\n\r\n")[2]
    text = b""
    while frames:
        kind, length = frames[0], int.from_bytes(frames[4:8], "big")
        text += frames[16 : 16 + length] if kind == 2 else b""
        frames = frames[16 + length :]
    return text.decode()


def test_processes_know_the_proxy_and_the_placeholders(box: Guest) -> None:
    assert "HTTP_PROXY" not in environment(box)
    settings = {"mode": "open", "proxy_env": True, "placeholders": {"API_TOKEN": "cloche-secret-0"}}
    assert box.ask("PUT", "/v1/egress", settings)[0] == 204
    env = environment(box)
    host, port = listener(box, "proxy")
    assert env["HTTPS_PROXY"] == env["https_proxy"] == f"http://{host}:{port}"
    assert env["API_TOKEN"] == "cloche-secret-0"
    own = environment(box, HTTPS_PROXY="http://of.the.user:1", API_TOKEN="mine")
    assert own["HTTPS_PROXY"] == "http://of.the.user:1" and "https_proxy" not in own
    assert own["HTTP_PROXY"] and own["API_TOKEN"] == "mine"


def test_health_says_that_nothing_redirects_here(box: Guest) -> None:
    assert box.get("/v1/health")["transparent_tcp"] is False
