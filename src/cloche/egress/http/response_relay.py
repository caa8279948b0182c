"""The response to one request on its way to the client, piece by piece."""

from __future__ import annotations

from collections.abc import Callable

from cloche.egress.hooks import Traffic
from cloche.egress.http.client_side import ClientSide
from cloche.egress.http.heads import RequestHead, ResponseHead
from cloche.egress.http.requests import BodyWriter, End
from cloche.egress.http.response_filter import ResponseFilter
from cloche.egress.http.site_side import SiteSide
from cloche.egress.http.upgraded import Upgraded
from cloche.egress.secrecy.redaction import Redaction


class ResponseRelay:
    """`begun`: the client has got something of it. `reusable`: it is complete, and the client's connection goes on."""

    def __init__(
        self, client: ClientSide, upstream: SiteSide, request: RequestHead, redaction: Redaction, traffic: Traffic
    ) -> None:
        self._client, self._upstream = client, upstream
        self._request = request
        self._redaction = redaction
        self._traffic = traffic
        self.begun = self.reusable = False

    async def run(self, request_is_out: Callable[[], bool]) -> None:
        """Raises ClientGoneError, UpstreamGoneError, BadMessageError and LimitHit."""
        response = await self._final_head()
        self._traffic.answered(response.status)
        if response.status == 101:
            await self._switch(response)
            return
        if self._request.upgrade is not None:
            self._client.resume()
        filtered = self._filter(response)
        response = filtered.head if filtered else response
        # a request that is still under way may never be complete
        ends_after = response.body_for(self._request).kind == "close" or not request_is_out()
        await self._carry(response, filtered, close=ends_after or not self._request.keep_alive)

    async def _final_head(self) -> ResponseHead:
        while True:
            response = await self._head()
            if not response.is_informational:
                return response
            await self._client.write(self._for_client(response))

    async def _head(self) -> ResponseHead:
        while (event := self._upstream.ready()) is None:
            await self._more()
        assert isinstance(event, ResponseHead)
        return event

    async def _more(self) -> None:
        await self._traffic.received(await self._upstream.receive())

    def _filter(self, response: ResponseHead) -> ResponseFilter | None:
        return ResponseFilter(self._redaction, response, self._request) if self._redaction else None

    def _for_client(self, response: ResponseHead) -> bytes:
        filtered = self._filter(response)
        return (filtered.head if filtered else response).downstream(self._request)

    async def _carry(self, response: ResponseHead, filtered: ResponseFilter | None, *, close: bool) -> None:
        writer = BodyWriter(response.body_for(self._request))
        # with the first of the body, where that is there already
        waiting = response.downstream(self._request, close=close)
        while not isinstance(event := self._upstream.ready(), End):
            if event is None:
                waiting = await self._write(waiting)
                await self._more()
                continue
            assert isinstance(event, bytes)
            for piece in filtered.piece(event) if filtered else (event,):
                waiting = await self._write(waiting + writer.piece(piece) if waiting else writer.piece(piece))
        last = filtered.end() if filtered else b""
        await self._write(waiting + (writer.piece(last) if last else b"") + writer.end())
        self.reusable = not close
        if close:
            await self._client.write_eof()

    async def _write(self, data: bytes) -> bytes:
        """What then still waits: nothing."""
        if data:
            self.begun = True
            await self._client.write(data)
        return b""

    async def _switch(self, response: ResponseHead) -> None:
        """From here on it is the site's own protocol, and nobody looks at it as requests any more."""
        upstream_said, client_said = self._upstream.take_rest(), self._client.take_rest()
        await self._write(self._for_client(response))
        upgraded = Upgraded(self._client, self._upstream, self._traffic, self._redaction)
        await upgraded.run(client_said, upstream_said)
