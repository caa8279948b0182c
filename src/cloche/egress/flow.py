"""Carries the HTTP/1 requests of one client one by one: each is decided before a byte of it leaves."""

from __future__ import annotations

from cloche.channel.base import ByteStream
from cloche.egress.hooks import DialError, Exchange, Hooks, LimitHit, Site, Tunnel

__all__ = ["DialError", "Exchange", "Hooks", "LimitHit", "Site", "Tunnel", "serve_requests"]


async def serve_requests(client: ByteStream, site: Site | None, hooks: Hooks, first: bytes = b"") -> Tunnel | None:
    """Until the client or the site has enough; closes `client`, and every connection that it made.

    `site`: where the client believes to be connected (origin-form; a Host that names another is refused). None: the
    proxy port, where each request names its site in absolute-form; on CONNECT the client is left open and a Tunnel is
    returned. `first`: bytes that were read already. Raises nothing but CancelledError; a LimitHit or a lost connection
    is recorded and ends it."""
    raise NotImplementedError
