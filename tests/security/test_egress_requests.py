"""HTTP that says one thing to the door and another to the site."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cloche.model.egress import EgressPolicy, EgressRule
from tests.integration.dns_server import dns_server
from tests.integration.door_guest import DoorProcess, GuestStream, StandInGuest, door_process
from tests.integration.door_world import Upstream

EVIL = "evil.test"
H2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


class Site(Upstream):
    """Answers each head that it gets, and remembers all bytes."""

    def __init__(self) -> None:
        self.got = b""
        super().__init__(self._talk_http)

    def _talk_http(self, sock: socket.socket, _: Upstream) -> None:
        while data := sock.recv(65536):
            self.got += data
            for _ in range(data.count(b"\r\n\r\n")):
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def started() -> Iterator[DoorProcess]:
    with dns_server() as dns, door_process(resolver=dns.address) as door:
        for name in ("up.test", EVIL):
            dns.add(name, "127.0.0.1")
        yield door


@pytest.fixture
def door(started: DoorProcess) -> Iterator[DoorProcess]:
    yield started
    started.detach_all()


def rule(site: Upstream, **more: object) -> EgressRule:
    given = {"hosts": ["up.test"], "ports": [str(site.port)], "addresses": ["127.0.0.0/8"]} | more
    return EgressRule(**given)  # type: ignore[arg-type]


def web(site: Upstream, **more: object) -> EgressPolicy:
    return EgressPolicy(rules=[rule(site, protocols=["tls", "http"], **more)])


def opened(guest: StandInGuest, site: Upstream, via: str) -> GuestStream:
    """Connected to the allowed site, by each way that code has."""
    if via == "connect":
        stream = guest.proxy()
        stream.socket.sendall(b"CONNECT up.test:%d HTTP/1.1\r\nHost: up.test:%d\r\n\r\n" % (site.port, site.port))
        stream.until(b"\r\n\r\n")
        return stream
    stream = guest.connect("up.test", site.port, via)
    if via == "socks":
        assert stream.answer() == {"ok": True}
    return stream


def said(stream: GuestStream, data: bytes, via: str) -> bytes:
    stream.socket.sendall(data)
    stream.socket.shutdown(socket.SHUT_WR)
    if via == "redirect" and not stream.answer()["ok"]:
        return b""
    return stream.rest()


VIAS = ["redirect", "socks", "connect"]
GOOD = b"GET /good HTTP/1.1\r\nHost: up.test:%d\r\n\r\n"
#: what must never arrive at the site has "evil" in it
LIES = {
    "another host": b"GET /evil HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "behind a good one": GOOD + b"GET /evil HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "absolute": GOOD + b"GET http://evil.test/evil HTTP/1.1\r\nHost: up.test:%d\r\n\r\n",
    "absolute twice": b"GET http://evil.test/evil HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "user info": b"GET http://up.test@evil.test/evil HTTP/1.1\r\nHost: up.test:%d\r\n\r\n",
    "host in port": b"GET /evil HTTP/1.1\r\nHost: up.test:%d@evil.test\r\n\r\n",
    "host list": b"GET /evil HTTP/1.1\r\nHost: up.test:%d, evil.test\r\n\r\n",
    "two hosts": b"GET /evil HTTP/1.1\r\nHost: up.test:%d\r\nHost: evil.test\r\n\r\n",
    "folded host": b"GET /evil HTTP/1.1\r\nHost:\r\n evil.test\r\n\r\n",
    "blank before": b"GET /evil HTTP/1.1\r\nHost : evil.test\r\nHost: up.test:%d\r\n\r\n",
    "connect inside": GOOD + b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\nevil",
    "connect to itself": b"CONNECT up.test:%d HTTP/1.1\r\nHost: up.test:%d\r\n\r\nevil",
    "both lengths": b"POST / HTTP/1.1\r\nHost: up.test:%d\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\nGET /evil HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "hidden coding": b"POST /evil HTTP/1.1\r\nHost: up.test:%d\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunk extension": b"POST / HTTP/1.1\r\nHost: up.test:%d\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;evil=\r\nab\r\n0\r\n\r\n",
    "trailer": b"POST / HTTP/1.1\r\nHost: up.test:%d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: evil.test\r\n\r\n",
    "bare cr": b"GET /evil HTTP/1.1\r\nHost: up.test:%d\r\nX: a\rHost: evil.test\r\n\r\n",
    "bare lf": b"GET /evil HTTP/1.1\nHost: up.test:%d\n\n",
    "named by connection": b"GET /evil HTTP/1.1\r\nHost: up.test:%d\r\nConnection: Host\r\n\r\n",
    "h2c": b"GET /good HTTP/1.1\r\nHost: up.test:%d\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + H2 + b"evil",
    "prior knowledge": H2 + b"evil",
    "old http": b"GET /evil\r\n",
    "form feed": b"GET\x0c/evil\x0cHTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "lower case": b"get /evil HTTP/1.1\r\nHost: up.test:%d\r\n\r\n",
    "nothing before": b"\r\n\r\nGET /evil HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "version": b"GET /evil HTTP/1.9\r\nHost: up.test:%d\r\n\r\n",
    "raw": b"\0evil",
}  # fmt: skip


@pytest.mark.parametrize("via", VIAS)
@pytest.mark.parametrize("lie", LIES)
def test_lies_about_the_host(door: DoorProcess, guest: StandInGuest, site: Site, lie: str, via: str) -> None:
    door.attach(guest, web(site))
    said(opened(guest, site, via), LIES[lie].replace(b"%d", b"%d" % site.port), via)
    door.detach_all()
    assert b"evil" not in site.got and b"PRI" not in site.got and b"h2c" not in site.got


@pytest.mark.parametrize("lie", ["host", "second", "origin", "scheme", "port", "socks", "tls"])
def test_lies_to_the_proxy(door: DoorProcess, guest: StandInGuest, site: Site, lie: str) -> None:
    door.attach(guest, web(site))
    good = b"GET http://up.test:%d/good HTTP/1.1\r\nHost: up.test:%d\r\n\r\n" % (site.port, site.port)
    lies = {
        "host": good.replace(b"Host: up", b"Host: evil").replace(b"good", b"evil"),
        "second": good + good.replace(b"up.", b"evil.").replace(b"good", b"evil"),
        "origin": b"GET /evil HTTP/1.1\r\nHost: up.test:%d\r\n\r\n" % site.port,
        "scheme": good.replace(b"http:", b"https:").replace(b"good", b"evil"),
        "port": b"GET http://up.test:1/evil HTTP/1.1\r\nHost: up.test:1\r\n\r\n",
        "socks": b"\5\1\0" + good.replace(b"good", b"evil"),
        "tls": b"\x16\3\1\0\5" + good.replace(b"good", b"evil"),
    }
    stream = guest.proxy()
    stream.ask(lies[lie])
    door.detach_all()
    assert b"evil" not in site.got


OVERRIDES = [
    "X-HTTP-Method-Override: DELETE", "x-http-method: delete", "X_HTTP_METHOD_OVERRIDE: DELETE",
    "X-HTTP-Method-Override: POST, DELETE", "X-Original-URL: /admin/x", "X-Rewrite-Url: http://up.test/admin/x?y",
]  # fmt: skip


@pytest.mark.parametrize("header", OVERRIDES)
def test_a_header_that_means_another_request(door: DoorProcess, guest: StandInGuest, site: Site, header: str) -> None:
    door.attach(guest, web(site, methods=["POST", "GET"], paths=["/open/**"]))
    head = f"POST /open/a HTTP/1.1\r\nHost: up.test:{site.port}\r\n{header}\r\nContent-Length: 0\r\n\r\n"
    assert b"403" in said(guest.connect("up.test", site.port), head.encode(), "redirect")[:12]
    assert site.got == b""


def test_a_parameter_that_means_another_method(door: DoorProcess, guest: StandInGuest, site: Site) -> None:
    door.attach(guest, web(site, methods=["POST"]))
    for query, status in (
        ("_method=delete", b"403"), ("%5fmethod=delete", b"403"), ("a=b;_%6Dethod=delete", b"403"),
        ("_method=post&_method=delete", b"403"), ("_method=de%6Cete", b"403"), ("_method", b"403"),
        ("_method=post", b"200"), ("a=_method", b"200"), ("a=%26_method=delete", b"200"),
    ):  # fmt: skip
        head = f"POST /a?{query} HTTP/1.1\r\nHost: up.test:{site.port}\r\nContent-Length: 0\r\n\r\n"
        assert status in said(guest.connect("up.test", site.port), head.encode(), "redirect")[:12]


@pytest.mark.parametrize("data", [H2, b"GET\x0c/admin/x\x0cHTTP/1.1\r\n\r\n", b"\0\1\2\3", b"get /admin/x\r\n"])
def test_a_rule_that_denies_requests_is_not_passed_by_as_raw_bytes(
    door: DoorProcess, guest: StandInGuest, site: Site, data: bytes
) -> None:
    """Behind it another allows anything on that port, and the site may read there what the door does not."""
    denied = rule(site, action="deny", paths=["/admin/**"], addresses=[])
    door.attach(guest, EgressPolicy(rules=[denied, rule(site)]))
    assert said(guest.connect("up.test", site.port), data, "redirect") == b""
    door.detach_all()
    assert site.got == b""
