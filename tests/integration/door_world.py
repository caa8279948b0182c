"""Servers on loopback that the door's tests connect to, and certificates for them."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

WAIT = 20.0


class Upstream:
    """Each connection is given to `talk` in a thread of its own, and closed after it. `seen`: bytes, by `note`."""

    def __init__(self, talk: Callable[[socket.socket, Upstream], None], address: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.accepted = threading.Semaphore(0)
        self.count = 0
        self._talk = talk
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(WAIT)
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(WAIT)

    def keep(self, sock: socket.socket) -> None:
        """To be ended with the server."""
        self._open.append(sock)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(WAIT)
            self.count += 1
            self._open.append(sock)
            thread = threading.Thread(target=self._one, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()
            self.accepted.release()

    def _one(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, ssl.SSLError):
            self._talk(sock, self)


@contextlib.contextmanager
def upstream(talk: Callable[[socket.socket, Upstream], None], address: str = "127.0.0.1") -> Iterator[Upstream]:
    server = Upstream(talk, address)
    try:
        yield server
    finally:
        server.close()


def echo(sock: socket.socket, _: Upstream) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def hello_http(sock: socket.socket, _: Upstream) -> None:
    """Answers every request with its own head."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            piece = sock.recv(65536)
            if not piece:
                return
            data += piece
        head, _, data = data.partition(b"\r\n\r\n")
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))


class Certificates:
    """An authority of the tests' own, and files with what it signs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign("tests", self._key, self._key, is_authority=True)
        self.file = str(directory / "authority.pem")
        Path(self.file).write_bytes(_pem(self._certificate))

    def server(self, *names: str) -> ssl.SSLContext:
        """A server's context for these names; which one a client named is `sni` of its socket."""
        key = ec.generate_private_key(ec.SECP256R1())
        path = self._directory / f"{names[0]}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(secret + _pem(self._sign(names[0], key, self._key, names=names)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.file)

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        by: ec.EllipticCurvePrivateKey,
        names: tuple[str, ...] = (),
        is_authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named("tests"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
        return builder.sign(by, hashes.SHA256())


@contextlib.contextmanager
def certificates() -> Iterator[Certificates]:
    with tempfile.TemporaryDirectory(prefix="cloche-certificates-") as directory:
        yield Certificates(Path(directory))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def tls_echo(context: ssl.SSLContext) -> Callable[[socket.socket, Upstream], None]:
    def talk(sock: socket.socket, server: Upstream) -> None:
        with context.wrap_socket(sock, server_side=True) as secured:
            # it has the descriptor from now on
            server.keep(secured)
            echo(secured, server)

    return talk


class Tls:
    """A TLS client over anything that sends and receives, so that what the door says before can be read first."""

    def __init__(self, context: ssl.SSLContext, name: str | None, send: Callable[[bytes], object]) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._send = send
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        send(self._out.read())

    def finish(self, sock: socket.socket) -> Tls:
        """The rest of the handshake. Raises ssl.SSLError, and EOFError at an early end."""
        self._until(self._tls.do_handshake, sock)
        return self

    def ask(self, sock: socket.socket, data: bytes) -> bytes:
        self._tls.write(data)
        self._send(self._out.read())
        found = self._until(lambda: self._tls.read(65536), sock)
        assert isinstance(found, bytes)
        return found

    def certificate_issuer(self) -> str:
        found = x509.load_der_x509_certificate(self._tls.getpeercert(True) or b"")
        return found.issuer.rfc4514_string()

    def _until(self, step: Callable[[], object], sock: socket.socket) -> object:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._send(self._out.read())
                data = sock.recv(65536)
                if not data:
                    raise EOFError from None
                self._in.write(data)
            else:
                self._send(self._out.read())
                return result
