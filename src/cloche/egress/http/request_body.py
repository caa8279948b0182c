"""The body of a request on its way out, past the search for placeholders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from cloche.egress.hooks import Hooks
from cloche.egress.http.client_side import ClientSide
from cloche.egress.http.heads import Headers, RequestHead
from cloche.egress.http.requests import BodyWriter, Framing
from cloche.egress.secrecy.secrets import BodyFilter

#: bodies up to this size keep a Content-Length when values go into them; larger ones go in chunks
WHOLE_BYTES = 256 << 10
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class RequestBody:
    """`prepared` first, then `pieces`. Both raise SecretRefusedError, BadMessageError and ClientGoneError."""

    def __init__(self, client: ClientSide, head: RequestHead, passed: BodyFilter | None, hooks: Hooks) -> None:
        self._hooks = hooks
        self._client = client
        self._head = head
        self._filter = passed
        self._whole: bytes | None = None

    @property
    def complete(self) -> bool:
        """There is none."""
        return self._head.framing.kind == "none"

    @property
    def secrets(self) -> list[str]:
        """Those that were put into it."""
        return sorted(self._filter.used) if self._filter else []

    async def prepared(self) -> RequestHead:
        """The head that fits what `pieces` will give."""
        if self.complete or self._filter is None or not self._filter.changes_length:
            return self._head
        framing = self._head.framing
        most = min(WHOLE_BYTES, self._hooks.piece_bytes())
        if framing.kind == "length" and framing.length <= most and self._hooks.may_hold(framing.length):
            framing = await self._read_whole(framing.length)
        else:
            framing = Framing("chunked")
        self._head = replace(self._head, framing=framing, headers=_framed(self._head.headers, framing))
        return self._head

    async def _read_whole(self, length: int) -> Framing:
        self._hooks.hold(length)
        if self._head.expects_continue:
            await self._client.write(_CONTINUE)
            others = tuple(header for header in self._head.headers if header[0].lower() != b"expect")
            self._head = replace(self._head, headers=others, expects_continue=False)
        self._whole = b"".join([data async for data in self._plain()])
        return Framing("length", len(self._whole))

    async def pieces(self) -> AsyncIterator[bytes]:
        """As they go over the wire."""
        writer = BodyWriter(self._head.framing)
        if self._whole is not None:
            yield writer.piece(self._whole) + writer.end()
            self._hooks.hold(0)
            return
        async for data in self._plain():
            yield writer.piece(data)
        if end := writer.end():
            yield end

    async def _plain(self) -> AsyncIterator[bytes]:
        """Pieces that are not empty."""
        while (data := await self._client.next_piece()) is not None:
            if done := self._filter.piece(data) if self._filter else data:
                yield done
        if self._filter and (last := self._filter.end()):
            yield last


def _framed(headers: Headers, framing: Framing) -> Headers:
    others = tuple(header for header in headers if header[0].lower() not in (b"content-length", b"transfer-encoding"))
    if framing.kind == "chunked":
        return (*others, (b"Transfer-Encoding", b"chunked"))
    return (*others, (b"Content-Length", b"%d" % framing.length))
