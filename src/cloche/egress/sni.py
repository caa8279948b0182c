"""What a TLS client says before anything is encrypted: the ClientHello, out of the first bytes of a connection, without I/O.

The door believes nothing of it; it compares the name with what was allowed. Hence everything that two parsers could
read in two ways (two names, a name with odd characters, lengths that do not add up) is refused here."""

from __future__ import annotations

from dataclasses import dataclass

#: of records with their headers; a hello with post-quantum keys and a session ticket is about 2 KiB
MAX_HELLO_BYTES = 64 << 10


class BadHelloError(ValueError):
    """It begins as TLS and is no ClientHello that this door carries; the text says why."""


@dataclass(frozen=True, slots=True)
class NeedMore:
    """So far it is the beginning of a hello: call again with more bytes behind the same ones."""


@dataclass(frozen=True, slots=True)
class NotTls:
    """The first byte is no TLS record's."""


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
        raise NotImplementedError
