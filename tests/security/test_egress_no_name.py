"""TLS clients that name no host, where the door passes TLS on and where it ends it, by every way in."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading

import pytest

from cloche.egress.messages import GivenSecret
from cloche.model.egress import AcceptRule, EgressPolicy, EgressRule, Secret
from tests.integration.door_guest import DoorProcess, GuestStream, StandInGuest
from tests.integration.door_world import WAIT, Tls, Upstream

LOOPBACK = ["127.0.0.0/8"]
PLACEHOLDER = "cloche-secret-" + "0123456789abcdef" * 2
WAYS = ["redirect", "socks", "proxy"]
MODES = ["pass", "inspect", "paths", "secret"]


@pytest.fixture
def server(swallower: Upstream) -> Upstream:
    return swallower


def attach(door: DoorProcess, guest: StandInGuest, server: Upstream, mode: str) -> None:
    rule = EgressRule(
        hosts=["up.test"],
        ports=[str(server.port)],
        addresses=LOOPBACK,
        tls="inspect" if mode == "inspect" else "pass",
        paths=["/**"] if mode == "paths" else [],
    )
    secret = GivenSecret(secret=Secret(name="T", hosts=["up.test"]), placeholder=PLACEHOLDER, value="v" * 20)
    door.attach(guest, EgressPolicy(rules=[rule]), secrets=[secret] if mode == "secret" else [])


def opened(guest: StandInGuest, host: str, port: int, via: str) -> GuestStream:
    """As far as the code believes to be connected."""
    if via != "proxy":
        stream = guest.connect(host, port, via)
        if via == "socks":
            assert stream.answer() == {"ok": True}
        return stream
    stream = guest.proxy()
    stream.socket.sendall(b"CONNECT %s:%d HTTP/1.0\r\n\r\n" % (host.encode(), port))
    assert b" 200 " in stream.until(b"\r\n\r\n")
    return stream


def nameless() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_refused(door: DoorProcess, got: bytearray) -> None:
    event = door.event("egress_denied")
    assert event["host"] == "up.test" and "no SNI" in event["reason"]
    door.detach_all()
    assert got == b""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("via", WAYS)
def test_is_refused_with_an_alert(
    door: DoorProcess, guest: StandInGuest, server: Upstream, got: bytearray, via: str, mode: str
) -> None:
    attach(door, guest, server, mode)
    stream = opened(guest, "up.test", server.port, via)
    tls = Tls(nameless(), None, stream.socket.sendall)
    if via == "redirect":
        assert stream.answer() == {"ok": True}
    with pytest.raises(ssl.SSLError, match=r"(?i)access[ _]denied"):
        tls.finish(stream.socket)
    check_refused(door, got)


@pytest.mark.parametrize("mode", MODES)
def test_openssl_says_why_it_failed(
    door: DoorProcess, guest: StandInGuest, server: Upstream, got: bytearray, mode: str
) -> None:
    attach(door, guest, server, mode)
    stream = opened(guest, "up.test", server.port, "socks")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        client = subprocess.Popen(
            ["openssl", "s_client", "-connect", place, "-noservername"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with client, listener.accept()[0] as sock:
            back = threading.Thread(target=_copy, args=(stream.socket, sock))
            back.start()
            _copy(sock, stream.socket)
            back.join(WAIT)
            assert b"alert access denied" in client.communicate(timeout=WAIT)[0]
    assert client.returncode != 0
    check_refused(door, got)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.mark.parametrize("via", WAYS)
def test_an_address_that_a_rule_names_has_no_name_to_be_said(
    door: DoorProcess, guest: StandInGuest, server: Upstream, via: str
) -> None:
    rule = EgressRule(cidrs=["127.0.0.1/32"], ports=[str(server.port)], tls="inspect")
    door.attach(guest, EgressPolicy(rules=[rule]))
    stream = opened(guest, "127.0.0.1", server.port, via)
    # Python says no name for an address, and looks for the address in the certificate
    tls = Tls(ssl.create_default_context(cadata=door.ready.authority_pem), "127.0.0.1", stream.socket.sendall)
    if via == "redirect":
        assert stream.answer() == {"ok": True}
    assert "Cloche" in tls.finish(stream.socket).certificate_issuer()


def test_another_sandbox_is_named_too(
    door: DoorProcess, guest: StandInGuest, other: StandInGuest, server: Upstream, got: bytearray
) -> None:
    other.dialled = lambda port: ("127.0.0.1", server.port)
    door.attach(other, EgressPolicy(accept=[AcceptRule(sandboxes=["box"])]), sandbox_id="sb_2", name="db")
    door.attach(guest, EgressPolicy(rules=[EgressRule(hosts=["db.sandbox"], protocols=["tls"])]))
    stream = opened(guest, "db.sandbox", 443, "redirect")
    tls = Tls(nameless(), None, stream.socket.sendall)
    assert stream.answer() == {"ok": True}
    with pytest.raises(ssl.SSLError, match=r"(?i)access[ _]denied"):
        tls.finish(stream.socket)
    assert "no SNI" in door.event("egress_denied")["reason"]
    door.detach_all()
    assert got == b""
