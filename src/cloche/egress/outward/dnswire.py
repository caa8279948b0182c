"""DNS messages as the door reads and writes them, over dnspython, without I/O.

The guest answers A and AAAA itself; what comes here are the other types, and answers of the machine's resolver. Both
are hostile: a message is bounded, has one question, and an answer must be to that question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

MAX_MESSAGE_BYTES = 65535
MAX_QUERY_BYTES = 4096
#: in all sections: what names in them point at makes each cost the parser up to a millisecond
MAX_RECORDS = 300
MAX_CNAMES = 16
#: types that are carried. HTTPS and SVCB are not: they bring keys for encrypted hellos, and addresses
CARRIED_TYPES = frozenset(
    "TXT MX SRV NS SOA PTR CAA NAPTR CNAME DS DNSKEY TLSA SSHFP SPF URI LOC HINFO".split()  # noqa: SIM905
)
_PAYLOAD_BYTES = 1232


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
    if len(message) > MAX_QUERY_BYTES:
        raise BadMessageError(f"a query of {len(message)} bytes")
    parsed = _parsed(message)
    if parsed.flags & dns.flags.QR or parsed.opcode() != dns.opcode.QUERY or parsed.answer or parsed.authority:
        raise BadMessageError("no query")
    name, kind = _question(parsed)
    return Query(parsed.id, name, kind, bool(parsed.flags & dns.flags.RD))


def refuse(query: Query, code: str = "NXDOMAIN") -> bytes:
    """An answer without records. `code`: "NXDOMAIN", "SERVFAIL", "REFUSED", "NOTIMP", or "NOERROR" (there is the
    name, and nothing of this type)."""
    return _answer_to(query, dns.rcode.from_text(code)).to_wire(max_size=MAX_MESSAGE_BYTES)


def ask(name: str, kind: str, id: int) -> bytes:
    """A query for a resolver, with EDNS. Raises BadMessageError for what is no DNS name."""
    if "\\" in name or not name.isascii():
        raise BadMessageError("a name with odd characters")
    try:
        return dns.message.make_query(
            dns.name.from_text(name + "."), kind, use_edns=0, payload=_PAYLOAD_BYTES, id=id
        ).to_wire()
    except (dns.exception.DNSException, ValueError) as error:
        raise BadMessageError(f"no DNS question: {error}") from error


def carry(query: Query, answer: bytes, asked_id: int) -> bytes:
    """The resolver's answer to `ask(query.name, query.kind, asked_id)` as the code's answer: checked, written anew,
    with the code's id. Raises BadMessageError for an answer to another question."""
    parsed = _answer_of(answer, query.name, query.kind, asked_id)
    written = _answer_to(query, parsed.rcode())
    for section, source in ((written.answer, parsed.answer), (written.authority, parsed.authority)):
        section.extend(rrset for rrset in source if _may_pass(rrset))
    try:
        return written.to_wire(max_size=MAX_MESSAGE_BYTES)
    except (dns.exception.DNSException, ValueError) as error:
        raise BadMessageError(f"an answer that cannot be written: {error}") from error


def addresses(answer: bytes, name: str, kind: str, asked_id: int) -> tuple[list[str], int]:
    """Of an answer to `ask(name, "A" or "AAAA", asked_id)`: the addresses, along its CNAMEs (at most 16), and the
    smallest TTL in seconds. Empty: no such name, or it has none. Raises BadMessageError, also for SERVFAIL and such."""
    parsed = _answer_of(answer, name, kind, asked_id)
    if parsed.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise BadMessageError(f"the resolver answered {dns.rcode.to_text(parsed.rcode())}")
    if kind not in ("A", "AAAA"):
        raise BadMessageError(f"{kind} is no address")
    rrsets = list(_along(parsed, dns.name.from_text(name + "."), dns.rdatatype.from_text(kind)))
    found = [item.to_text() for rrset in rrsets for item in rrset if rrset.rdtype != dns.rdatatype.CNAME]
    return list(dict.fromkeys(found)), min((rrset.ttl for rrset in rrsets), default=0)


def is_truncated(answer: bytes) -> bool:
    """Whether the resolver wants to be asked over TCP."""
    return len(answer) >= 12 and bool(answer[2] & 0x02)


def _along(
    answer: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType
) -> Iterator[dns.rrset.RRset]:
    for _ in range(MAX_CNAMES):
        rrset = answer.get_rrset(answer.answer, name, dns.rdataclass.IN, kind)
        if rrset is not None:
            yield rrset
            return
        alias = answer.get_rrset(answer.answer, name, dns.rdataclass.IN, dns.rdatatype.CNAME)
        if alias is None or len(alias) != 1:
            return
        yield alias
        name = alias[0].target


def _answer_to(query: Query, code: dns.rcode.Rcode) -> dns.message.Message:
    written = dns.message.Message(id=query.id)
    written.flags = dns.flags.QR | dns.flags.RA | (dns.flags.RD if query.wants_recursion else dns.flags.Flag(0))
    written.set_rcode(code if code < 16 else dns.rcode.SERVFAIL)
    name = dns.name.from_text(query.name + ".")
    written.find_rrset(
        written.question, name, dns.rdataclass.IN, dns.rdatatype.from_text(query.kind), create=True, force_unique=True
    )
    return written


def _answer_of(answer: bytes, name: str, kind: str, asked_id: int) -> dns.message.Message:
    if len(answer) > MAX_MESSAGE_BYTES:
        raise BadMessageError(f"an answer of {len(answer)} bytes")
    parsed = _parsed(answer)
    if not parsed.flags & dns.flags.QR or parsed.id != asked_id or _question(parsed) != (name.lower(), kind):
        raise BadMessageError("an answer to another question")
    return parsed


def _may_pass(rrset: dns.rrset.RRset) -> bool:
    """Addresses and keys for encrypted hellos come in no other record's answer either."""
    return rrset.rdclass == dns.rdataclass.IN and dns.rdatatype.to_text(rrset.rdtype) in CARRIED_TYPES


def _parsed(message: bytes) -> dns.message.Message:
    announced = sum(int.from_bytes(message[at : at + 2], "big") for at in (4, 6, 8, 10))
    if announced > MAX_RECORDS:
        raise BadMessageError(f"a message of {announced} records")
    try:
        return dns.message.from_wire(message, one_rr_per_rrset=False)
    except (dns.exception.DNSException, ValueError, NotImplementedError) as error:
        raise BadMessageError(f"no DNS message: {error or type(error).__name__}") from error


def _question(parsed: dns.message.Message) -> tuple[str, str]:
    if len(parsed.question) != 1 or parsed.question[0].rdclass != dns.rdataclass.IN:
        raise BadMessageError("not one question of the Internet class")
    asked = parsed.question[0]
    return _text(asked.name), dns.rdatatype.to_text(asked.rdtype)


def _text(name: dns.name.Name) -> str:
    """Escapes (a dot or a space inside a label) would come back as other labels than they were."""
    text = name.to_text(omit_final_dot=True).lower()
    if name == dns.name.root:
        return ""
    if "\\" in text:
        raise BadMessageError("a name with odd characters")
    return text
