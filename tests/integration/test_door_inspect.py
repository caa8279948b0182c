"""TLS that the door ends: requests inside are decided, and secrets take the place of what the code has."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest

from cloche.egress.messages import GivenSecret, SetPolicy
from cloche.model.egress import Secret
from tests.integration.dns_server import DnsServer
from tests.integration.door_fixtures import allowing
from tests.integration.door_guest import DoorProcess, StandInGuest, door_process
from tests.integration.door_world import Certificates, Tls, Upstream, hello_http, upstream

PLACEHOLDER = "cloche-secret-" + "0123456789abcdef" * 2


@pytest.fixture
def door(dns: DnsServer, authority: Certificates) -> Iterator[DoorProcess]:
    with door_process(resolver=dns.address, upstream_authorities=authority.file) as door:
        yield door


@pytest.fixture
def site(authority: Certificates) -> Iterator[Upstream]:
    context = authority.server("up.test")

    def talk(sock: socket.socket, server: Upstream) -> None:
        with context.wrap_socket(sock, server_side=True) as secured:
            server.keep(secured)
            hello_http(secured, server)

    with upstream(talk) as server:
        yield server


class Inside:
    """A TLS client in the sandbox, which trusts the node's authority only."""

    def __init__(self, door: DoorProcess, guest: StandInGuest, server: Upstream, via: str) -> None:
        context = ssl.create_default_context(cadata=door.ready.authority_pem)
        self._stream = guest.connect("up.test", server.port, via)
        self._host = f"up.test:{server.port}"
        if via == "socks":
            assert self._stream.answer() == {"ok": True}
        self.tls = Tls(context, "up.test", self._stream.socket.sendall)
        if via == "redirect":
            assert self._stream.answer() == {"ok": True}
        self.tls.finish(self._stream.socket)

    def get(self, path: str, *headers: str) -> bytes:
        lines = [f"GET {path} HTTP/1.1", f"Host: {self._host}", *headers, "", ""]
        return self.tls.ask(self._stream.socket, "\r\n".join(lines).encode())


@pytest.mark.parametrize("via", ["redirect", "socks"])
def test_each_request_is_decided(door: DoorProcess, guest: StandInGuest, site: Upstream, via: str) -> None:
    door.attach(guest, allowing(site, paths=["/open/**"]))
    client = Inside(door, guest, site, via)
    assert "Cloche" in client.tls.certificate_issuer()
    assert b"200 OK" in client.get("/open/a")
    refused = client.get("/closed")
    assert b"403 Forbidden" in refused
    assert door.event("egress_denied")["path"] == "/closed"


def test_a_secret_is_put_in_and_taken_out_of_the_answer(door: DoorProcess, guest: StandInGuest, site: Upstream) -> None:
    secret = Secret(name="TOKEN", hosts=["up.test"])
    given = GivenSecret(secret=secret, placeholder=PLACEHOLDER, value="the-real-value")
    door.attach(guest, allowing(site, paths=["/**"]), secrets=[given])
    client = Inside(door, guest, site, "redirect")
    answer = client.get("/", f"Authorization: Bearer {PLACEHOLDER}")
    # the server answers with what it was sent
    assert b"200 OK" in answer and PLACEHOLDER.encode() not in answer
    assert b"the-real-value" not in answer and b"[secret TOKEN" in answer


def test_a_connection_that_was_carried_blindly_ends_when_it_is_to_be_seen(
    door: DoorProcess, guest: StandInGuest, site: Upstream, authority: Certificates
) -> None:
    door.attach(guest, allowing(site))
    stream = guest.connect("up.test", site.port, "socks")
    assert stream.answer() == {"ok": True}
    Tls(authority.client(), "up.test", stream.socket.sendall).finish(stream.socket)
    door.ask(SetPolicy, sandbox_id="sb_1", policy=allowing(site, paths=["/open/**"]))
    stream.rest()
    assert door.event("egress_revoked")["host"] == "up.test"
