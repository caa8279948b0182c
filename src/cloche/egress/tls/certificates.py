"""What the authority's certificates say: its own, and those that the door shows in the name of a site."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = datetime.timedelta(days=3650)
LEAF_LIFE = datetime.timedelta(days=6)
#: clocks inside may be behind, after a fork above all
BACKDATED = datetime.timedelta(days=1)
_SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def leaf_certificate(
    host: str, leaf_key: ec.EllipticCurvePrivateKey, signer: x509.Certificate, signing_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """Of one name or address. Raises ValueError for what cannot stand in a certificate."""
    moment = now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(host if len(host) <= 64 else "cloche"))
        .issuer_name(signer.subject)
        .public_key(leaf_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(moment - BACKDATED, signer.not_valid_before_utc))
        .not_valid_after(moment + LEAF_LIFE)
    )
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (_SERVER, False),
        (x509.SubjectAlternativeName([_general_name(host)]), False),
        (x509.SubjectKeyIdentifier.from_public_key(leaf_key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), False),
    ]
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signing_key, hashes.SHA256())


def own_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    # each has a name of its own: two with one name and different keys would be taken for each other
    name = _name(f"Cloche sandbox authority {os.urandom(4).hex()}")
    moment = now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - 2 * BACKDATED)
        .not_valid_after(moment + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(_SERVER, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    return x509.DNSName(host)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
