"""Decides what a sandbox may reach. The first rule that matches wins; what is not known yet makes it undecided.

A decision never changes to a better one when more is known: asking early is safe. It is undecided only while the rest
could change it, so that no name is looked up for an answer that is no anyway."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Literal

from cloche.egress.presets import Preset, load
from cloche.model.egress import Decision, EgressPolicy, Protocol, Secret, Tls

#: "address": look the name up; "protocol": look at the first bytes; "request": look at the HTTP request (inside TLS
#: when it is TLS)
Need = Literal["address", "protocol", "request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is known of a connection (or of a request in it); None: not known yet.

    `host`: of `names.read_host`. `address`: what the name turned out to be, canonical. `protocol`: of the connection
    that the code opened (a request inside TLS has "tls"). `path`: as the client sent it."""

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
    `secret_host`: a secret may be put into requests to it."""

    opened: tuple[str, ...] = ()
    encrypted_hello: bool = False
    secret_host: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """`tls`: what to do when it turns out to be TLS and something is still needed."""

    needs: frozenset[Need]
    tls: Tls = "pass"


class Compiled:
    """A policy made ready; it never changes (but for the machine's own addresses in `own`, which it only looks at)."""

    def decide(self, attempt: Attempt) -> Decided | Undecided:
        """Never raises. An address that is known is held against the forbidden ranges as well, so: decide by name
        first, and by each of its addresses before one is dialled."""
        raise NotImplementedError

    def may_resolve(self, name: str) -> bool:
        """Whether the name may be answered: some port and protocol of it could be allowed or asked for."""
        raise NotImplementedError

    def address_refusal(self, decision: Decision, address: str) -> str | None:
        """Why an address of a name that was allowed by `decision` is not dialled; None when it may be."""
        raise NotImplementedError


def compile_policy(
    policy: EgressPolicy,
    secrets: Sequence[Secret] = (),
    presets: Callable[[str], Preset] = load,
    own: Container[str] = (),
) -> Compiled:
    """Raises InvalidError naming the field (an unknown preset, a name that IDNA does not know)."""
    raise NotImplementedError


def remedy_words(attempt: Attempt) -> str | None:
    """The shortest word for `cloche policy allow SANDBOX WORD` that would allow it; None when no word can."""
    raise NotImplementedError
