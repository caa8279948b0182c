"""The other side of the network's benchmarks: a server on loopback in a process of its own, with a name, a certificate
and a DNS server that knows the name."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

NAME = "upstream.example"
ZEROS = bytes(1 << 20)


@dataclass(frozen=True)
class World:
    """`plain` and `tls`: ports on 127.0.0.1. `authorities`: a PEM file that vouches for the certificate."""

    plain: int
    tls: int
    dns: int
    authorities: Path


@contextlib.contextmanager
def world(directory: Path) -> Iterator[World]:
    """Everything runs in one child, which ends with the block."""
    certificate = _certificate(directory)
    plain, tls, dns = _listener(), _listener(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dns.bind(("127.0.0.1", 0))
    pid = os.fork()
    if not pid:
        _serve(plain, tls, dns, certificate)
    try:
        yield World(plain.getsockname()[1], tls.getsockname()[1], dns.getsockname()[1], certificate)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for each in (plain, tls, dns):
            each.close()


def _listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=2048)


def _serve(plain: socket.socket, tls: socket.socket, dns: socket.socket, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    threading.stack_size(128 << 10)
    threading.Thread(target=_accept, args=(plain, lambda sock: sock), daemon=True).start()
    threading.Thread(target=_answer_names, args=(dns,), daemon=True).start()
    _accept(tls, lambda sock: context.wrap_socket(sock, server_side=True))
    os._exit(0)


def _accept(listener: socket.socket, wrap: Callable[[socket.socket], socket.socket]) -> None:
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_attend, args=(sock, wrap), daemon=True).start()


def _attend(sock: socket.socket, wrap: Callable[[socket.socket], socket.socket]) -> None:
    with contextlib.suppress(OSError, ValueError), wrap(sock) as inner:
        while line := inner.recv(4096):
            if line.startswith(b"ECHO"):
                inner.sendall(line)
            elif line.startswith(b"BULK "):
                _send(inner, int(line[5:]))
                break
            elif line.startswith(b"GET /bytes/"):
                count = int(line[11:].split(b" ", 1)[0])
                inner.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % count)
                _send(inner, count)
                break


def _send(sock: socket.socket, count: int) -> None:
    while count > 0:
        piece = memoryview(ZEROS)[: min(count, len(ZEROS))]
        sock.sendall(piece)
        count -= len(piece)


def _answer_names(sock: socket.socket) -> None:
    import dns.flags
    import dns.message
    import dns.rrset

    while True:
        data, client = sock.recvfrom(4096)
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        question = query.question[0]
        if question.rdtype == 1 and str(question.name) == f"{NAME}.":
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "127.0.0.1"))
        sock.sendto(answer.to_wire(), client)


def _certificate(directory: Path) -> Path:
    """Self-signed, so that it is its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = directory / "upstream.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.with_suffix(".key").write_bytes(secret)
    return path
