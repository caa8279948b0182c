"""What a TLS client says before anything is encrypted: the ClientHello, out of the first bytes of a connection.

Without I/O. The door believes nothing of it; it compares the name with what was allowed. Hence everything that two
parsers could read in two ways (two names, a name with odd characters, lengths that do not add up) is refused here."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: of records with their headers; a hello with post-quantum keys and a session ticket is about 2 KiB
MAX_HELLO_BYTES = 64 << 10
#: a library sends one or two; each costs the parser time whenever it is asked again
MAX_RECORDS = 64
_RECORD_HEADER = 5
_MAX_RECORD_BYTES = 1 << 14
_HANDSHAKE, _CLIENT_HELLO = 22, 1
#: of TLS: servers were seen that pass over an alert or such in front of a hello, which would then be no hello here
RECORD_TYPES = frozenset({20, 21, 22, 23, 24})
_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS = 0, 16, 43
#: encrypted hellos, drafts included, and the encrypted server name that came before them
_ENCRYPTED = frozenset({*range(0xFE08, 0xFE0E), 0xFFCE})
_NAME = re.compile(rb"[0-9A-Za-z._:-]{1,255}")


class BadHelloError(ValueError):
    """It begins as TLS and is no ClientHello that this door carries; the text says why."""


@dataclass(frozen=True, slots=True)
class NeedMore:
    """So far it is the beginning of a hello: call again with more bytes behind the same ones, at best when the buffer
    has `at_least` bytes (before that the answer is the same)."""

    at_least: int


@dataclass(frozen=True, slots=True)
class NotTls:
    """The first bytes are no TLS record's."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """`sni`: the name as it stood in the hello, ASCII, perhaps with a trailing dot, perhaps an address; None: none was
    given. `alpn`: in the client's order. `version`: the highest that the client offers, as on the wire (0x0303 is TLS
    1.2). `has_ech`: an encrypted hello or something that looks like one (clients send dummies, which nobody can tell
    apart), or the older encrypted SNI. `record_bytes`: what of the buffer the hello took."""

    sni: str | None
    alpn: tuple[str, ...]
    version: int
    has_ech: bool
    record_bytes: int

    @classmethod
    def parse(cls, buffer: bytes | bytearray | memoryview) -> ClientHello | NeedMore | NotTls:
        """Of the first bytes of a connection. Raises BadHelloError, and nothing else."""
        data = bytes(buffer[:MAX_HELLO_BYTES])
        other = _no_record(data)
        if other is not None:
            return other
        found = _handshake(data)
        if isinstance(found, NeedMore):
            return found
        message, record_bytes = found
        return _hello(message, record_bytes)


class _Cursor:
    """Reads lengths and what they announce; beyond the end is BadHelloError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise BadHelloError("a length beyond the end of the hello")
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))

    def finish(self) -> None:
        if not self.done:
            raise BadHelloError("bytes behind the end of a field")


def _no_record(data: bytes) -> NeedMore | NotTls | None:
    """None: it begins as a TLS record."""
    if not data:
        return NeedMore(1)
    if data[0] & 0x80:
        return _ssl2(data)
    if data[0] not in RECORD_TYPES:
        return NotTls()
    if len(data) < 2:
        return NeedMore(2)
    if data[0] != _HANDSHAKE and data[1] == 3:
        raise BadHelloError("another record before the hello")
    if data[0] != _HANDSHAKE:
        return NotTls()
    if data[1] == 0xFE:
        raise BadHelloError("a datagram TLS record on a stream")
    return None if data[1] == 3 else NotTls()


def _ssl2(data: bytes) -> NeedMore | NotTls:
    """Servers may still take the old form of a hello, which has no place for a name."""
    if len(data) < 5:
        return NeedMore(5) if b"\x01".startswith(data[2:3]) else NotTls()
    if data[2] == 1 and data[3:5] in (b"\x00\x02", b"\x03\x00", b"\x03\x01", b"\x03\x02", b"\x03\x03"):
        raise BadHelloError("an SSL 2 hello")
    return NotTls()


def _handshake(data: bytes) -> tuple[bytes, int] | NeedMore:
    """(the hello without its handshake header, bytes of its records)."""
    pieces: list[bytes] = []
    have, wanted, at = 0, 4, 0
    while have < wanted:
        end = _record_end(data, at, len(pieces))
        if len(data) < end:
            return NeedMore(end)
        pieces.append(data[at + _RECORD_HEADER : end])
        have, at = have + len(pieces[-1]), end
        if have >= 4:
            wanted = _message_end(b"".join(pieces) if len(pieces) > 1 else pieces[0])
    if have > wanted:
        raise BadHelloError("bytes behind the hello in its record")
    return b"".join(pieces)[4:], at


def _record_end(data: bytes, at: int, count: int) -> int:
    """Of the record at `at`; the end of its header while that has not come."""
    header = data[at : at + _RECORD_HEADER]
    if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
        raise BadHelloError("another record in the middle of the hello")
    end = at + _RECORD_HEADER
    if len(header) == _RECORD_HEADER:
        length = int.from_bytes(header[3:], "big")
        if not 0 < length <= _MAX_RECORD_BYTES:
            raise BadHelloError(f"a record of {length} bytes")
        end += length
    if end > MAX_HELLO_BYTES or count >= MAX_RECORDS:
        raise BadHelloError(f"a hello of more than {MAX_HELLO_BYTES} bytes or {MAX_RECORDS} records")
    return end


def _message_end(message: bytes) -> int:
    if message[0] != _CLIENT_HELLO:
        raise BadHelloError(f"handshake message {message[0]} instead of a hello")
    length = int.from_bytes(message[1:4], "big")
    if length > MAX_HELLO_BYTES:
        raise BadHelloError(f"a hello of {length} bytes")
    return 4 + length


def _hello(message: bytes, record_bytes: int) -> ClientHello:
    cursor = _Cursor(message)
    version = cursor.number(2)
    if version >> 8 != 3:
        raise BadHelloError(f"version {version:#06x}")
    cursor.take(32)
    _check_start(cursor)
    extensions = _extensions(cursor)
    return ClientHello(
        sni=_server_name(extensions.get(_SERVER_NAME)),
        alpn=_protocols(extensions.get(_ALPN)),
        version=_highest(version, extensions.get(_SUPPORTED_VERSIONS)),
        has_ech=not _ENCRYPTED.isdisjoint(extensions),
        record_bytes=record_bytes,
    )


def _check_start(cursor: _Cursor) -> None:
    """Session id, cipher suites, compressions."""
    if len(cursor.vector(1)) > 32:
        raise BadHelloError("a session id of more than 32 bytes")
    suites = len(cursor.vector(2))
    if suites < 2 or suites % 2:
        raise BadHelloError("an odd list of cipher suites")
    if 0 not in cursor.vector(1):
        raise BadHelloError("no null compression")


def _extensions(cursor: _Cursor) -> dict[int, bytes]:
    if cursor.done:
        return {}
    inner = _Cursor(cursor.vector(2))
    cursor.finish()
    found: dict[int, bytes] = {}
    while not inner.done:
        kind = inner.number(2)
        if kind in found:
            raise BadHelloError(f"extension {kind} twice")
        found[kind] = inner.vector(2)
    return found


def _server_name(extension: bytes | None) -> str | None:
    if extension is None:
        return None
    outer = _Cursor(extension)
    names = _Cursor(outer.vector(2))
    outer.finish()
    kind, name = names.number(1), names.vector(2)
    if kind or not names.done:
        raise BadHelloError("more than one server name, or one of another kind")
    return _checked_name(name)


def _checked_name(name: bytes) -> str:
    if not _NAME.fullmatch(name):
        raise BadHelloError("a server name that is empty, too long or has odd characters")
    labels = name.removesuffix(b".").split(b".")
    if b"" in labels and b":" not in name:
        raise BadHelloError("a server name with an empty label")
    return name.decode("ascii")


def _protocols(extension: bytes | None) -> tuple[str, ...]:
    if extension is None:
        return ()
    outer = _Cursor(extension)
    names = _Cursor(outer.vector(2))
    outer.finish()
    found: list[str] = []
    while not names.done:
        found.append(names.vector(1).decode("latin-1"))
    if not all(found) or not found:
        raise BadHelloError("an empty protocol name")
    return tuple(found)


def _highest(legacy: int, extension: bytes | None) -> int:
    if extension is None:
        return legacy
    outer = _Cursor(extension)
    listed = outer.vector(1)
    outer.finish()
    if not listed or len(listed) % 2:
        raise BadHelloError("an odd list of versions")
    offered = [int.from_bytes(listed[at : at + 2], "big") for at in range(0, len(listed), 2)]
    # values like 0x3a3a stand there so that servers learn to skip what they do not know
    return max((version for version in offered if version >> 8 == 3), default=legacy)
