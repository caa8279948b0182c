"""ClientHellos, good and bad: made by the ssl module, and by hand where no library would.

`python tests/unit/egress/tls/hello_making.py` writes those made by hand to `hellos/`. The first word of a file's name
says what the parser makes of it: ok, more (is needed), not (TLS), bad."""

from __future__ import annotations

import ssl
from pathlib import Path

FOLDER = Path(__file__).parent / "hellos"
NAME = b"pypi.example"


def from_ssl(name: str | None, *, newest: ssl.TLSVersion | None = None, alpn: list[str] | None = None) -> bytes:
    """What Python's own TLS would send."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if newest is not None:
        context.minimum_version = context.maximum_version = newest
    if alpn:
        context.set_alpn_protocols(alpn)
    outgoing = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def vector(data: bytes, size: int = 2) -> bytes:
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(data)


def names(*entries: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(b"".join(bytes([kind]) + vector(entry) for entry in entries)))


def message(
    extensions: bytes | None = names(NAME), *, version: bytes = b"\x03\x03", session: bytes = b"",
    suites: bytes = b"\x13\x01\x00\x2f", compressions: bytes = b"\0", kind: int = 1, behind: bytes = b"",
) -> bytes:  # fmt: skip
    """A handshake message."""
    body = version + b"R" * 32 + vector(session, 1) + vector(suites) + vector(compressions, 1)
    if extensions is not None:
        body += vector(extensions)
    return bytes([kind]) + vector(body + behind, 3)


def record(data: bytes, version: bytes = b"\x03\x01", kind: int = 22) -> bytes:
    return bytes([kind]) + version + vector(data)


def records(data: bytes, size: int) -> bytes:
    return b"".join(record(data[at : at + size]) for at in range(0, len(data), size))


VERSIONS = extension(43, vector(b"\x3a\x3a\x03\x04\x03\x03", 1))
PADDING = extension(21, bytes(20_000))
MADE = {
    "ok-plain": record(message()),
    "ok-two-records": records(message(), 30),
    "ok-many-records": records(message(), 2),
    "ok-large": records(message(names(NAME) + PADDING), 1 << 14),
    "ok-grease": record(message(extension(0x2A2A, b"") + names(NAME) + VERSIONS + extension(0xFAFA, b"\0"))),
    "ok-ech": record(message(names(NAME) + extension(0xFE0D, b"\0" * 40))),
    "ok-esni": record(message(extension(0xFFCE, b"\0" * 40))),
    "ok-no-extensions": record(message(None)),
    "ok-no-sni": record(message(VERSIONS)),
    "ok-tls10": record(message(version=b"\x03\x01")),
    "ok-ssl3-record": record(message(), version=b"\x03\x00"),
    "ok-trailing-dot": record(message(names(NAME + b"."))),
    "ok-upper-case": record(message(names(NAME.upper()))),
    "ok-address": record(message(names(b"192.0.2.1"))),
    "ok-address6": record(message(names(b"2001:db8::1"))),
    "ok-underscore": record(message(names(b"_a.example"))),
    "ok-early-data": record(message()) + record(b"x" * 50, b"\x03\x03", kind=23),
    "more-empty": b"",
    "more-one-byte": b"\x16",
    "more-header": b"\x16\x03\x01\x01",
    "more-cut": record(message())[:-1],
    "more-second-record": records(message(), 30)[:40],
    "more-ssl2": b"\x80\x2e\x01",
    "not-http": b"GET / HTTP/1.1\r\n",
    "not-ssh": b"SSH-2.0-x\r\n",
    "bad-alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "not-binary": b"\x80\x00\x00\x01\x02\x03",
    "not-version-4": b"\x16\x04\x00\x00\x05",
    "bad-ssl2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
    "bad-ssl2-of-tls": b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",
    "bad-dtls": b"\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10",
    "bad-two-names": record(message(names(NAME, b"other.example"))),
    "bad-same-name-twice": record(message(names(NAME, NAME))),
    "bad-two-extensions": record(message(names(NAME) + names(b"other.example"))),
    "bad-same-extension-twice": record(message(VERSIONS + names(NAME) + VERSIONS)),
    "bad-no-name": record(message(extension(0, vector(b"")))),
    "bad-empty-extension": record(message(extension(0, b""))),
    "bad-empty-name": record(message(names(b""))),
    "bad-name-kind": record(message(names(NAME, kind=1))),
    "bad-dot": record(message(names(b"."))),
    "bad-two-dots": record(message(names(b"a.example.."))),
    "bad-empty-label": record(message(names(b"a..example"))),
    "bad-nul": record(message(names(b"pypi.example\0.evil.example"))),
    "bad-utf8": record(message(names("pypí.example".encode()))),
    "bad-space": record(message(names(b"pypi.example "))),
    "bad-percent": record(message(names(b"pypi%2eexample"))),
    "bad-wildcard": record(message(names(b"*.example"))),
    "bad-long-name": record(message(names(b"a" * 256))),
    "bad-length-beyond": record(message(b"\0\0\0\xff" + vector(b"\0" + vector(NAME)))),
    "bad-list-length": record(message(extension(0, b"\0\xff\0" + vector(NAME)))),
    "bad-behind-names": record(message(extension(0, vector(b"\0" + vector(NAME)) + b"x"))),
    "bad-behind-extensions": record(message(behind=b"x")),
    "bad-session": record(message(session=bytes(33))),
    "bad-no-suites": record(message(suites=b"")),
    "bad-odd-suites": record(message(suites=b"\0\x2f\0")),
    "bad-compression": record(message(compressions=b"\1")),
    "bad-version": record(message(version=b"\x02\x00")),
    "bad-versions-odd": record(message(names(NAME) + extension(43, vector(b"\x03\x04\x03", 1)))),
    "bad-alpn-empty": record(message(names(NAME) + extension(16, vector(b"\0")))),
    "bad-server-hello": record(message(kind=2)),
    "bad-empty-record": record(b"") + record(message()),
    "bad-large-record": b"\x16\x03\x01\x40\x01",
    "bad-large-hello": record(b"\x01\x02\x00\x00" + bytes(100)),
    "bad-too-many-records": records(message(), 1),
    "bad-alert-between": records(message(), 30)[:35] + record(b"\x01\x00", kind=21),
    "bad-message-behind": record(message() + message()),
}  # fmt: skip


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, data in MADE.items():
        (FOLDER / f"{name}.bin").write_bytes(data)


if __name__ == "__main__":
    main()
