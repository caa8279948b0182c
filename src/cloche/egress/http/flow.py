"""Carries the HTTP/1 requests of one client one by one: each is decided before a byte of it leaves."""

from __future__ import annotations

import asyncio
import time

from cloche.channel.base import ByteStream
from cloche.egress.hooks import DialError, Exchange, Hooks, LimitHit, Site, Tunnel
from cloche.egress.http.client_side import ClientSide
from cloche.egress.http.exchange import Carried
from cloche.egress.http.framing import BadMessageError
from cloche.egress.http.outcomes import RefusedError, bad_request, limit_hit
from cloche.egress.http.site_side import Connect, SiteSide
from cloche.egress.messages import GivenSecret
from cloche.egress.secrecy.redaction import Redaction

__all__ = ["DialError", "Exchange", "Hooks", "LimitHit", "Site", "Tunnel", "serve_requests"]


async def serve_requests(
    client: ByteStream, site: Site | None, hooks: Hooks, first: bytes = b"", *, connect: Connect | None = None
) -> Tunnel | None:
    """Until the client or the site has enough; closes `client`, and every connection that it made.

    `site`: where the client believes to be connected (origin-form; a Host that names another is refused). None: the
    proxy port, where each request names its site in absolute-form; on CONNECT the client is left open and a Tunnel is
    returned. `first`: bytes that were read already. `connect`: makes connections to sites; plain ones by `hooks.dial`
    without it. Raises nothing but CancelledError; a LimitHit or a lost connection is recorded and ends it."""
    flow = Flow(ClientSide(client, first, hooks), site, hooks, connect or _plainly(hooks))
    tunnel = None
    try:
        tunnel = await flow.run()
    finally:
        await flow.close()
        if tunnel is None:
            await flow.client.close()
    return tunnel


def _plainly(hooks: Hooks) -> Connect:
    async def connect(site: Site) -> ByteStream:
        return await hooks.dial(site.host, site.port)

    return connect


class Flow:
    """One connection of a client, and the one connection to a site that rests between its requests."""

    def __init__(self, client: ClientSide, site: Site | None, hooks: Hooks, connect: Connect) -> None:
        self.client = client
        self.site = site
        self.hooks = hooks
        self._connect = connect
        self._upstream: SiteSide | None = None
        self._redaction: tuple[list[GivenSecret], Redaction] = ([], Redaction([]))

    async def run(self) -> Tunnel | None:
        try:
            while (head := await self.client.next_head()) is not None:
                if head.form == "authority" and self.site is None:
                    return Tunnel(head.host, head.port or 443, self.client.take_rest())
                if not await Carried(self, head).run():
                    break
        except BadMessageError as error:
            await self._refuse(bad_request(error))
        except LimitHit as error:
            await self._refuse(limit_hit(error))
        return None

    async def _refuse(self, refused: RefusedError) -> None:
        """What came is no request at all, or not yet."""
        site = self.site or Site("", 0)
        self.hooks.record(
            Exchange(
                site=site,
                status=refused.status,
                verdict=refused.verdict,
                decision=refused.decision,
                reason=refused.reason,
                began=time.time(),
            )
        )
        await self.client.refuse(refused.body)

    async def upstream(self, site: Site) -> SiteSide:
        """The connection that rests, or a new one. Raises DialError."""
        resting = self._upstream
        fits = resting is not None and resting.site == site and not await resting.is_stale()
        self._upstream = None
        if resting is not None:
            if fits:
                return resting
            await resting.close()
        return SiteSide(site, await self._connect(site), self.hooks)

    async def give_back(self, upstream: SiteSide) -> None:
        if upstream.rest():
            self._upstream = upstream
        else:
            await upstream.close()

    def redaction(self, given: list[GivenSecret]) -> Redaction:
        """With nothing found yet."""
        if not given:
            return Redaction([])
        known, redaction = self._redaction
        if known != given:
            redaction = Redaction(given)
            self._redaction = (list(given), redaction)
        redaction.found.clear()
        return redaction

    async def close(self) -> None:
        """The site's end; the client's belongs to somebody else."""
        if self._upstream is not None:
            await asyncio.shield(self._upstream.close())
