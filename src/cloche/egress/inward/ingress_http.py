"""One connection of a client to published ports: its requests go to the sandboxes that their hosts name.

Requests and responses are read by the same strict parser as those that leave a sandbox, and written anew, so a client's
connection can be used for one request after the other whatever a server in a sandbox says."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable

from cloche.egress.http.client_side import ClientSide
from cloche.egress.http.framing import BadMessageError
from cloche.egress.http.heads import Headers, RequestHead
from cloche.egress.http.outcomes import ClientGoneError, UpstreamGoneError
from cloche.egress.http.requests import BodyWriter
from cloche.egress.http.response_relay import ResponseRelay
from cloche.egress.http.site_side import SiteSide
from cloche.egress.http.upgraded import stop
from cloche.egress.inward import ingress_pages
from cloche.egress.inward.published import Entry, Streams, UnreachableError, Visit
from cloche.egress.outward.sockets import SocketStream
from cloche.egress.secrecy.redaction import Redaction

#: a client that has finished sending may be gone
HALF_CLOSED_SECONDS = 60.0
#: may be sent twice when a connection that rested turns out to have ended
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
#: only this door says who has forwarded
_FORWARDING = (b"forwarded", b"x-real-ip")
_NO_SECRETS = Redaction([])

Named = Callable[[str], Entry | None]


class HttpConnection:
    """`peer`: the address of the client, for X-Forwarded-For. `visited` is told of what it has used of each port. Its
    own `Traffic`, to count that."""

    def __init__(
        self, stream: SocketStream, peer: str, named: Named, streams: Streams, visited: Callable[[Visit], None]
    ) -> None:
        self._client = ClientSide(stream, b"")
        self._peer = peer
        self._named = named
        self._streams = streams
        self._visited = visited
        self._visit: Visit | None = None
        self._resting: tuple[Entry, SiteSide] | None = None
        self._answer: ResponseRelay | None = None

    async def run(self) -> None:
        """Until one of the two has enough; closes everything."""
        try:
            while (head := await self._client.next_head()) is not None:
                if not await self._served(head):
                    break
        except BadMessageError as error:
            await self._client.refuse(_no_request(error).http1())
        except ClientGoneError:
            pass
        finally:
            await self._rest_no_more()
            await self._client.close()
            self._leave_port()

    def _visit_port(self, entry: Entry) -> None:
        if self._visit is None or self._visit.entry is not entry:
            self._leave_port()
            self._visit = Visit(entry=entry, protocol="http", peer=self._peer)

    def _leave_port(self) -> None:
        visit, self._visit = self._visit, None
        if visit is not None:
            self._visited(visit)

    async def _served(self, head: RequestHead) -> bool:
        """Whether another request may follow."""
        self._answer = None
        entry = self._named(head.host) if head.form != "authority" else None
        if entry is None:
            await self._refuse(ingress_pages.unknown(_accepted(head)), head)
            return False
        if head.upgrade == "h2c":
            # it may go on as HTTP/1.1; who wants HTTP/2 begins with it
            head = dataclasses.replace(head, upgrade=None)
        self._visit_port(entry)
        task = asyncio.current_task()
        assert task is not None
        entry.users.add(task)
        try:
            return await self._carried(entry, head)
        finally:
            # a connection that rests goes on using it
            if self._resting is None:
                entry.users.discard(task)

    async def _carried(self, entry: Entry, head: RequestHead) -> bool:
        try:
            return await self._attempts(entry, head)
        except UnreachableError as error:
            if self._visit is not None:
                self._visit.why = error.why
            answer = ingress_pages.unreachable(error.why, entry.port, entry.sandbox_id, _accepted(head))
        except UpstreamGoneError as error:
            answer = ingress_pages.broken(str(error), _accepted(head))
        except BadMessageError as error:
            bad = ingress_pages.broken(str(error), _accepted(head))
            answer = bad if error.status == 502 else _no_request(error)
        if not self._answered:
            await self._refuse(answer, head)
        return False

    async def _refuse(self, answer: ingress_pages.Page, head: RequestHead) -> None:
        await self._client.refuse(answer.http1(bodiless=head.method == "HEAD"))

    @property
    def _answered(self) -> bool:
        return self._answer is not None and self._answer.begun

    async def _attempts(self, entry: Entry, head: RequestHead) -> bool:
        site = await self._site(entry)
        try:
            return await self._exchange(entry, site, head)
        except UpstreamGoneError as error:
            again = error.unheard and site.used and head.method in _REPEATABLE and head.framing.kind == "none"
            if not again or self._answered:
                raise
        site = SiteSide(entry.site, await entry.dial(self._streams))
        return await self._exchange(entry, site, head)

    async def _site(self, entry: Entry) -> SiteSide:
        """The connection that rests, or a new one."""
        resting, self._resting = self._resting, None
        if resting is not None:
            if resting[0] is entry and not resting[1].stale:
                return resting[1]
            self._leave(resting[0], unless=entry)
            await resting[1].close()
        return SiteSide(entry.site, await entry.dial(self._streams))

    async def _exchange(self, entry: Entry, site: SiteSide, head: RequestHead) -> bool:
        goes_on = False
        try:
            site.expect(head)
            await self._to_site(site, _for_sandbox(head, self._peer))
            goes_on = await self._both_ways(site, head)
            if goes_on and site.rest():
                self._resting = (entry, site)
        finally:
            if self._resting is None:
                await site.close()
        return goes_on

    async def _both_ways(self, site: SiteSide, head: RequestHead) -> bool:
        upload = asyncio.ensure_future(self._send_body(site, head))
        download = asyncio.ensure_future(self._relay_answer(site, head, upload))
        try:
            await asyncio.wait((upload, download), return_when=asyncio.FIRST_COMPLETED)
            if upload.done() and not download.done():
                # what it has not taken it may have answered
                with contextlib.suppress(UpstreamGoneError):
                    upload.result()
                await self._while_client_stays(download)
            return await download
        finally:
            await stop(upload, download)

    async def _while_client_stays(self, download: asyncio.Task[bool]) -> None:
        quiet = self._client.watch()
        await asyncio.wait((quiet, download), return_when=asyncio.FIRST_COMPLETED)
        if download.done():
            return
        if quiet.cancelled() or quiet.exception() is not None:
            raise ClientGoneError
        if quiet.result() == b"":
            await asyncio.wait((download,), timeout=HALF_CLOSED_SECONDS)
            if not download.done():
                raise ClientGoneError

    async def _send_body(self, site: SiteSide, head: RequestHead) -> None:
        writer = BodyWriter(head.framing)
        while (piece := await self._client.next_piece()) is not None:
            await self._to_site(site, writer.piece(piece))
        if end := writer.end():
            await self._to_site(site, end)
        if head.upgrade is None:
            self._client.resume()

    async def _relay_answer(self, site: SiteSide, head: RequestHead, upload: asyncio.Task[None]) -> bool:
        if head.upgrade is not None:
            # it has no body, and what follows may be another protocol
            await asyncio.wait((upload,))
        self._answer = ResponseRelay(self._client, site, head, _NO_SECRETS, self)
        await self._answer.run(lambda: _is_out(upload))
        return self._answer.reusable and _is_out(upload)

    async def _to_site(self, site: SiteSide, data: bytes) -> None:
        await self.sent(len(data))
        await site.write(data)

    async def sent(self, count: int) -> None:
        if self._visit is not None:
            self._visit.received_bytes += count

    async def received(self, count: int) -> None:
        if self._visit is not None:
            self._visit.sent_bytes += count

    def answered(self, status: int) -> None:
        """Visits are of connections, and have none."""

    async def _rest_no_more(self) -> None:
        resting, self._resting = self._resting, None
        if resting is not None:
            self._leave(resting[0])
            await resting[1].close()

    def _leave(self, entry: Entry, unless: Entry | None = None) -> None:
        task = asyncio.current_task()
        if task is not None and entry is not unless:
            entry.users.discard(task)


def _is_out(upload: asyncio.Task[None]) -> bool:
    return upload.done() and not upload.cancelled() and upload.exception() is None


def _for_sandbox(head: RequestHead, peer: str) -> bytes:
    """The head as a server in the sandbox gets it: with the host that the client has named."""
    host = f"[{head.host}]" if ":" in head.host else head.host
    authority = f"{host}:{head.port}" if head.port is not None else host
    said: Headers = (
        (b"X-Forwarded-For", peer.encode("ascii")),
        (b"X-Forwarded-Host", authority.encode("ascii")),
        (b"X-Forwarded-Proto", b"http"),
    )
    kept = tuple(header for header in head.headers if not _is_forwarding(header[0].lower()))
    return head.upstream(authority=authority, upgrade=True, headers=(*kept, *said))


def _is_forwarding(name: bytes) -> bool:
    # to servers of the WSGI kind both spellings are the same
    name = name.replace(b"_", b"-")
    return name in _FORWARDING or name.startswith(b"x-forwarded-")


def _accepted(head: RequestHead) -> bytes:
    return b",".join(head.values(b"accept"))


def _no_request(error: BadMessageError) -> ingress_pages.Page:
    return ingress_pages.refused(error.status, str(error))
