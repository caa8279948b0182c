"""What is known of a connection when it is decided, and what a decision may still need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cloche.model.egress import Decision, Protocol, Tls

#: "address": look the name up; "protocol": look at the first bytes; "request": look at the HTTP request (inside TLS
#: when it is TLS)
Need = Literal["address", "protocol", "request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is known of a connection (or of a request in it); None: not known yet.

    `host`: of `names.read_host`. `address`: what the name turned out to be, canonical. `protocol`: of the connection
    that the code opened (a request inside TLS has "tls"). `method` and `path`: of a request that the host is to get
    (never CONNECT), as the client sent them."""

    host: str
    is_address: bool
    port: int
    address: str | None = None
    protocol: Protocol | None = None
    sni: str | None = None
    method: str | None = None
    path: str | None = None


class Decided(Decision, frozen=True, kw_only=True):
    """`opened`: forbidden ranges that the rule gives to this destination. `encrypted_hello`: ECH is let through.
    `secret_host`: a secret may be put into requests to it. `is_of_request`: the rule is about methods or paths, so
    nothing follows for the next request."""

    opened: tuple[str, ...] = ()
    encrypted_hello: bool = False
    secret_host: bool = False
    is_of_request: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """`tls`: what to do when it turns out to be TLS and something is still needed."""

    needs: frozenset[Need]
    tls: Tls = "pass"
