"""Any bytes as a DNS query or as a resolver's answer: understood or BadMessageError."""

from __future__ import annotations

import sys

import dns.message

from cloche.egress.outward import dnswire
from cloche.egress.outward.dnswire import BadMessageError, Query

_QUERY = Query(7, "a.example", "TXT")
SEEDS = [
    dnswire.ask("a.example", "TXT", 7),
    dnswire.ask("a.example", "A", 7),
    dnswire.refuse(_QUERY),
    bytes.fromhex("00078180000100010000000001610765786d706c65000010000101610765786d706c6500001000010000003c0003026869"),
    bytes.fromhex("0007818000010001000000000161076578616d706c650000010001c00c000100010000003c0004c0000201"),
]


def fuzz(data: bytes) -> None:
    for call in (_query, _carry, _addresses):
        try:
            call(data)
        except BadMessageError:
            pass


def _query(data: bytes) -> None:
    query = dnswire.parse_query(data)
    dns.message.from_wire(dnswire.refuse(query, "SERVFAIL"))
    assert dnswire.parse_query(dnswire.ask(query.name, query.kind, 1)).name == query.name


def _carry(data: bytes) -> None:
    answer = dns.message.from_wire(dnswire.carry(_QUERY, data, 7))
    assert answer.id == _QUERY.id


def _addresses(data: bytes) -> None:
    found, ttl = dnswire.addresses(data, "a.example", "A", 7)
    assert ttl >= 0
    assert all(address.count(".") == 3 for address in found)


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
