"""One request on its way, and its response on the way back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cloche.egress.deciding.names import read_host
from cloche.egress.deciding.overrides import meanings
from cloche.egress.hooks import DialError, Exchange, LimitHit, Site
from cloche.egress.http import outcomes
from cloche.egress.http.framing import BadMessageError
from cloche.egress.http.heads import RequestHead
from cloche.egress.http.outcomes import ClientGoneError, RefusedError, UpstreamGoneError
from cloche.egress.http.request_body import RequestBody
from cloche.egress.http.response_filter import readable_only
from cloche.egress.http.response_relay import ResponseRelay
from cloche.egress.http.site_side import SiteSide
from cloche.egress.http.upgraded import stop
from cloche.egress.secrecy.secrets import SecretRefusedError, SiteSecrets
from cloche.model.egress import Protocol as Spoken

if TYPE_CHECKING:
    from cloche.egress.http.flow import Flow

#: nothing comes and nothing goes before the head of a response is there; models think for long
ANSWER_SECONDS = 600.0
#: a client that has finished sending may be gone
HALF_CLOSED_SECONDS = 60.0
#: for the answer of a site that would not read the whole request
PARTING_SECONDS = 10.0
#: of a path in the audit and in events
MAX_PATH = 2048
#: may be sent twice when a resting connection turns out to have ended
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})


class Carried:
    """Its own `Traffic`."""

    def __init__(self, flow: Flow, head: RequestHead) -> None:
        self._flow, self._client, self._hooks = flow, flow.client, flow.hooks
        self._head = head
        site = flow.site or Site(head.host, head.port or 80)
        self.record = Exchange(site=site, method=head.method, path=head.path[:MAX_PATH], began=time.time())
        self._began = time.monotonic()
        self._goes_on = False
        self._answer: ResponseRelay | None = None
        self._upload: asyncio.Task[None] | None = None
        self._redaction = flow.redaction([])

    @property
    def _site(self) -> Site:
        return self.record.site

    @property
    def _answered(self) -> bool:
        """The client has got the beginning of an answer: no other can be given."""
        return self._answer is not None and self._answer.begun

    async def run(self) -> bool:
        """Whether the client may ask for something else."""
        try:
            await self._run()
        except RefusedError as refused:
            await self._refuse(refused)
        except ClientGoneError:
            self._ended("failed", "the client went away")
        finally:
            self._report_redacted()
            self.record.duration_seconds = time.monotonic() - self._began
            self._hooks.record(self.record)
        return self._goes_on

    async def _refuse(self, refused: RefusedError) -> None:
        self._client.decided()
        self._ended(refused.verdict, refused.reason)
        self.record.decision = refused.decision or self.record.decision
        if not self._answered:
            self.record.status = refused.status
            await self._client.refuse(refused.body)

    def _ended(self, verdict: outcomes.Verdict, reason: str) -> None:
        self._goes_on = False
        self.record.verdict, self.record.reason = verdict, reason

    async def _run(self) -> None:
        try:
            self.record.site = self._destination()
            await self._decide()
            self._client.decided()
            await self._carry()
        except SecretRefusedError as error:
            what = error.code.removeprefix("secret_")
            self._happened(error.secret, what, error.reason)
            raise outcomes.secret_refused(error, self._site, self._head) from error
        except DialError as error:
            raise outcomes.undialled(error, self._site, self._head, self._hooks.sandbox) from error
        except LimitHit as error:
            raise outcomes.limit_hit(error) from error
        except UpstreamGoneError as error:
            raise outcomes.failed(f"{self._site.host}: {error}") from error
        except BadMessageError as error:
            if error.status != 502:
                raise outcomes.bad_request(error) from error
            raise outcomes.failed(f"{self._site.host}: {error}") from error

    def _destination(self) -> Site:
        """Raises RefusedError, BadMessageError."""
        site, head = self._flow.site, self._head
        if head.form == "authority" or (site is None and head.form != "absolute"):
            raise BadMessageError("this request is for another kind of proxy")
        if head.scheme not in ("", "http" if site is None else site.scheme):
            raise BadMessageError(f"{head.scheme} addresses are asked for by CONNECT")
        if site is None:
            return Site(_host(head), head.port or 80)
        named = not head.host or _host(head) == site.host
        if not named or head.port not in (None, site.port):
            raise outcomes.misdirected(site, head)
        return site

    async def _decide(self) -> None:
        site, head = self._site, self._head
        spoken: Spoken = "tls" if site.scheme == "https" else "http"
        for method, path in meanings(head):
            decision = await self._hooks.decide(site.host, site.port, spoken, method, path)
            self.record.decision = decision
            if decision.action != "allow":
                raise outcomes.denied(decision, site, head, self._hooks.sandbox)

    async def _carry(self) -> None:
        given = self._hooks.secrets(self._site.host)
        secrets = SiteSecrets(self._site, given, self._hooks.every_secret())
        injected = secrets.into_head(self._head)
        self.record.secrets += injected.secrets
        self._redaction = self._flow.redaction(given)
        headers = readable_only(injected.headers) if self._redaction else injected.headers
        self._websocket = self._head.upgrade == "websocket"
        sent = replace(self._head, headers=headers, upgrade="websocket" if self._websocket else None)
        body = RequestBody(self._client, sent, secrets.into_body(self._head), self._hooks)
        try:
            if body.complete:
                await self._no_body()
            await self._send(await body.prepared(), body, injected.target)
        finally:
            self.record.secrets += [name for name in body.secrets if name not in self.record.secrets]

    async def _send(self, sent: RequestHead, body: RequestBody, target: str) -> None:
        data = sent.upstream(authority=_authority(self._site), upgrade=self._websocket, target=target)
        upstream = await self._flow.upstream(self._site)
        try:
            try:
                await self._attempt(upstream, sent, body, data)
            except UpstreamGoneError as error:
                if not (error.unheard and upstream.used and self._repeatable(sent)):
                    raise
                await upstream.close()
                upstream = await self._flow.upstream(self._site)
                await self._attempt(upstream, sent, body, data)
            if self._goes_on:
                await self._flow.give_back(upstream)
        finally:
            if not self._goes_on:
                await upstream.close()

    def _repeatable(self, sent: RequestHead) -> bool:
        return sent.method in _REPEATABLE and sent.framing.kind == "none" and not self._answered

    async def _attempt(self, upstream: SiteSide, sent: RequestHead, body: RequestBody, data: bytes) -> None:
        upstream.expect(sent)
        await self.sent(len(data))
        await upstream.write(data)
        self._upload = None
        if not body.complete:
            self._upload = asyncio.ensure_future(self._send_body(upstream, body))
        self._answer = ResponseRelay(self._client, upstream, self._head, self._redaction, self)
        download = asyncio.ensure_future(self._answer.run(self._request_is_out))
        try:
            await self._both(download)
            self._goes_on = self._answer.reusable and self._request_is_out()
        finally:
            await stop(download, self._upload)

    async def _no_body(self) -> None:
        if await self._client.next_piece() is not None:
            raise BadMessageError("a body that was not announced")

    async def _send_body(self, upstream: SiteSide, body: RequestBody) -> None:
        async for data in body.pieces():
            await self.sent(len(data))
            await upstream.write(data)

    async def sent(self, count: int) -> None:
        await self._hooks.meter(sent=count)
        self.record.sent_bytes += count

    async def received(self, count: int) -> None:
        self.record.received_bytes += count
        await self._hooks.meter(received=count)

    def answered(self, status: int) -> None:
        self.record.status = status

    async def _both(self, download: asyncio.Task[None]) -> None:
        """Both directions, until the response is complete."""
        if self._upload is not None and not await self._uploaded(download, self._upload):
            return
        quiet = self._client.watch()
        await self._wait(download, quiet)
        if not download.done():
            await self._wait(download, patience=HALF_CLOSED_SECONDS if _has_finished(quiet) else None)
        await download

    async def _uploaded(self, download: asyncio.Task[None], upload: asyncio.Task[None]) -> bool:
        """Whether the request went out as a whole; otherwise the response has come without it."""
        await self._wait(download, upload)
        if upload.done():
            with contextlib.suppress(UpstreamGoneError):
                await upload
                return True
            # it answers first and closes, or it is gone
            await self._wait(download, patience=PARTING_SECONDS)
        await download
        return False

    async def _wait(
        self, download: asyncio.Task[None], other: asyncio.Task[Any] | None = None, patience: float | None = None
    ) -> None:
        """Until one of them is done. Raises RefusedError when nothing moves for so long that nothing will."""
        waiting = {task for task in (download, other) if task is not None}
        while True:
            moved = self._moved()
            limit = patience or (None if self._answered else ANSWER_SECONDS)
            if (await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED))[0]:
                return
            if moved == self._moved() and (patience or not self._answered):
                raise outcomes.failed(f"{self._site.host} did not answer in time", 504)

    def _moved(self) -> tuple[int, int]:
        return self.record.sent_bytes, self.record.received_bytes

    def _request_is_out(self) -> bool:
        upload = self._upload
        return upload is None or (upload.done() and not upload.cancelled() and upload.exception() is None)

    def _report_redacted(self) -> None:
        for name in sorted(self._redaction.found):
            self._happened(name, "redacted", f"{self._site.host} sent the value back; the code got stars instead")

    def _happened(self, secret: str, what: str, reason: str) -> None:
        site = self._site
        place = {"host": site.host, "port": site.port, "method": self._head.method, "path": self.record.path}
        self._hooks.happened("egress_secret", {"secret": secret, "what": what, "reason": reason, **place})


def _host(head: RequestHead) -> str:
    try:
        return read_host(head.host).text
    except ValueError as error:
        raise BadMessageError(str(error)) from error


def _authority(site: Site) -> str:
    host = f"[{site.host}]" if ":" in site.host else site.host
    return host if site.port == site.usual_port else f"{host}:{site.port}"


def _has_finished(watched: asyncio.Task[bytes]) -> bool:
    """A client that was watched may have finished sending. Raises ClientGoneError."""
    if not watched.done():
        return False
    if watched.cancelled() or watched.exception() is not None:
        raise ClientGoneError
    return watched.result() == b""
