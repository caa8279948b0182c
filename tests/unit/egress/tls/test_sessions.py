"""What OpenSSL remembers of clients that come again and again."""

from __future__ import annotations

import ssl

import pytest

from cloche.egress.tls import authority as authority_module
from cloche.egress.tls.authority import Authority


def talk(authority: Authority, name: str) -> None:
    """A whole connection of TLS 1.2 by a client that wants no tickets: its session is kept at the server."""
    context = ssl.create_default_context(cadata=authority.pem)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    server = authority.context(name).wrap_bio(to_server, to_client, server_side=True)
    for step in ("do_handshake", "unwrap"):
        left = [client, server]
        while left:
            side = left.pop(0)
            try:
                getattr(side, step)()
            except ssl.SSLWantReadError:
                left.append(side)


def test_sessions_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority_module, "MAX_SESSIONS", 5)
    authority = Authority.new()
    seen: list[ssl.SSLContext] = []
    for _ in range(12):
        seen.append(authority.context("a.test"))
        talk(authority, "a.test")
    assert [context.session_stats()["number"] for context in dict.fromkeys(seen)] == [5, 5, 2]


def test_a_name_whose_sessions_are_too_many_counts_as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs a certificate again, so who does that on purpose pays for it."""
    monkeypatch.setattr(authority_module, "MAX_SESSIONS", 1)
    authority = Authority.new()
    authority.context("a.test")
    assert authority.is_known("a.test")
    talk(authority, "a.test")
    assert not authority.is_known("a.test")
