"""The node's own certificate authority, which only its sandboxes trust: it signs what the door shows to their code.

The key signs for any name, so it must never leave `HOME/egress/`: guests get the certificate alone. A stolen key is
worth what the sandboxes of this data directory trust, and nothing on the machine itself, which never trusts it. So it
lives for ten years instead of having everybody's trust changed often; removing the file makes a new one at the next
start. Certificates for names live for days, and their one key only in the memory of this process."""

from __future__ import annotations

import contextlib
import datetime
import os
import ssl
import stat
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloche.egress.tls.certificates import key_pem, leaf_certificate, now, own_certificate
from cloche.model.errors import UnavailableError

#: one with less than this left is replaced when the door starts
RENEW_BEFORE = datetime.timedelta(days=90)
#: a context is made anew long before its certificate ends
CONTEXT_SECONDS = 24 * 3600
MAX_CONTEXTS = 256
#: that OpenSSL keeps in a context, of TLS 1.2 without tickets. The ssl module cannot tell it to keep none, and its own
#: bound is 20,000 in each
MAX_SESSIONS = 256
MAX_FILE_BYTES = 64 << 10
#: protocols that a client may ask for (ALPN); the older one is what `curl --http1.0` names, and nothing else with it
SPOKEN_INSIDE = ["http/1.1", "http/1.0"]


class AuthorityError(UnavailableError):
    """The file with the authority cannot be used; the remedy says what to do."""


class Authority:
    """Key and certificate in `HOME/egress/authority.pem`, 0600."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: OrderedDict[str, tuple[float, ssl.SSLContext]] = OrderedDict()

    @classmethod
    def open(cls, home: Path) -> Authority:
        """Of this data directory; made when there is none, once for all processes. Raises AuthorityError."""
        path = home / "egress" / "authority.pem"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = _load(path)
            if found is not None and found._left() < RENEW_BEFORE:
                found = _replace(path)
            return found or _create(path)
        except OSError as error:
            raise AuthorityError(f"cannot use {path}: {error.strerror or error}") from error

    @classmethod
    def new(cls) -> Authority:
        """One that no file knows."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key, own_certificate(key))

    @property
    def pem(self) -> str:
        """The certificate, for guests; without the key."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def context(self, host: str) -> ssl.SSLContext:
        """A server's context that shows a certificate of this name or address. Raises ValueError for what cannot
        stand in a certificate."""
        found = self._fresh(host) or (time.monotonic(), self._new_context(host))
        self._contexts[host] = found
        self._contexts.move_to_end(host)
        if len(self._contexts) > MAX_CONTEXTS:
            self._contexts.popitem(last=False)
        return found[1]

    def is_known(self, host: str) -> bool:
        """Whether `context` has it at hand; otherwise it costs a signature."""
        return self._fresh(host) is not None

    def _fresh(self, host: str) -> tuple[float, ssl.SSLContext] | None:
        found = self._contexts.get(host)
        if found is None or time.monotonic() - found[0] > CONTEXT_SECONDS:
            return None
        return found if found[1].session_stats()["number"] < MAX_SESSIONS else None

    def _new_context(self, host: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(SPOKEN_INSIDE)
        # a handshake costs less than what tickets would keep
        context.num_tickets = 0
        chain = [self.certificate(host), self._certificate]
        pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
        _load_chain(context, pem + key_pem(self._leaf_key))
        return context

    def certificate(self, host: str) -> x509.Certificate:
        """Of one name or address, signed by the authority. Raises ValueError."""
        return leaf_certificate(host, self._leaf_key, self._certificate, self._key)

    def _left(self) -> datetime.timedelta:
        return self._certificate.not_valid_after_utc - now()

    def _file(self) -> bytes:
        return key_pem(self._key) + self.pem.encode("ascii")


def _load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """The ssl module reads keys from files only: this one is in memory and has no name."""
    descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _create(path: Path) -> Authority:
    """Whoever is first makes it; everybody else takes that one."""
    made = Authority.new()
    with _written(path, made._file()) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return _load(path) or made
    return made


def _replace(path: Path) -> Authority:
    made = Authority.new()
    with _written(path, made._file()) as temporary:
        os.rename(temporary, path)
    return _load(path) or made


@contextlib.contextmanager
def _written(path: Path, data: bytes) -> Iterator[str]:
    """A complete file beside `path`, which goes again unless it was renamed."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".authority-")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _load(path: Path) -> Authority | None:
    """None when there is none. Raises AuthorityError for one that somebody else may know or that is damaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o077 or about.st_uid != os.geteuid():
            raise _unusable(path, "it is not a file that only this user can read, so its key may be known to others")
        data = file.read(MAX_FILE_BYTES)
    try:
        return _parse(data)
    except ValueError as error:
        raise _unusable(path, "it is damaged") from error


def _parse(data: bytes) -> Authority:
    key = serialization.load_pem_private_key(data, None)
    certificate = x509.load_pem_x509_certificate(data)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("key and certificate do not belong together")
    return Authority(key, certificate)


def _unusable(path: Path, why: str) -> AuthorityError:
    return AuthorityError(
        f"cannot use the authority {path}: {why}",
        remedy=f"rm {path}  (a new one is made; sandboxes that run trust it after `cloche stop` and `cloche start`)",
    )
