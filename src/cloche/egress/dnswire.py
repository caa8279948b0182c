"""DNS messages as the door reads and writes them, over dnspython, without I/O.

The guest answers A and AAAA itself; what comes here are the other types, and answers of the machine's resolver. Both are
hostile: a message is bounded, has one question, and an answer must be to that question."""

from __future__ import annotations

from dataclasses import dataclass

MAX_MESSAGE_BYTES = 65535
#: types that are carried. HTTPS and SVCB are not: they bring keys for encrypted hellos, and addresses
CARRIED_TYPES = frozenset({"TXT", "MX", "SRV", "NS", "SOA", "PTR", "CAA", "NAPTR", "CNAME", "DS", "DNSKEY", "TLSA", "SSHFP", "SPF", "URI", "LOC", "HINFO"})  # fmt: skip


class BadMessageError(ValueError):
    """It is no DNS message that the door carries."""


@dataclass(frozen=True, slots=True)
class Query:
    """`name`: lower case, without the trailing dot; "" is the root. `kind`: "TXT", "MX", … or "TYPE65280"."""

    id: int
    name: str
    kind: str
    wants_recursion: bool = True

    @property
    def is_carried(self) -> bool:
        """Whether the door asks a resolver for this type; others get an empty answer."""
        return self.kind in CARRIED_TYPES


def parse_query(message: bytes) -> Query:
    """Raises BadMessageError."""
    raise NotImplementedError


def refuse(query: Query, code: str = "NXDOMAIN") -> bytes:
    """An answer without records. `code`: "NXDOMAIN", "SERVFAIL", "REFUSED", "NOTIMP", or "NOERROR" (there is the
    name, and nothing of this type)."""
    raise NotImplementedError


def ask(name: str, kind: str, id: int) -> bytes:
    """A query for a resolver, with EDNS. Raises BadMessageError for what is no DNS name."""
    raise NotImplementedError


def carry(query: Query, answer: bytes, asked_id: int) -> bytes:
    """The resolver's answer to `ask(query.name, query.kind, asked_id)` as the code's answer: checked, written anew, with
    the code's id. Raises BadMessageError for an answer to another question."""
    raise NotImplementedError


def addresses(answer: bytes, name: str, kind: str, asked_id: int) -> tuple[list[str], int]:
    """Of an answer to `ask(name, "A" or "AAAA", asked_id)`: the addresses, along its CNAMEs (at most 16), and the
    smallest TTL in seconds. Empty: no such name, or it has none. Raises BadMessageError; also for SERVFAIL and the like."""
    raise NotImplementedError


def is_truncated(answer: bytes) -> bool:
    """Whether the resolver wants to be asked over TCP."""
    raise NotImplementedError
