"""Ends the TLS of a client with the node's authority, speaks verified TLS to the site, and carries the requests."""

from __future__ import annotations

from pathlib import Path

from cloche.channel.base import ByteStream
from cloche.egress.authority import Authority
from cloche.egress.hooks import Hooks, Site


class Inspector:
    """One for the door. `upstream_authorities`: a PEM file to trust beside the machine's. Raises OSError or
    ssl.SSLError when that cannot be read."""

    def __init__(self, authority: Authority, upstream_authorities: str | Path | None = None) -> None:
        self.authority = authority

    async def inspect_tls(self, client: ByteStream, site: Site, hooks: Hooks, first: bytes = b"") -> None:
        """`first`: what was read of the client's hello. Closes `client`. Raises as serve_requests does; a handshake
        that the client does not finish (it does not trust the authority) is recorded as failed."""
        raise NotImplementedError
