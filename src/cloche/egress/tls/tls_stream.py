"""TLS over any stream of bytes: the ssl module with its bytes in memory, in the door's own hands.

Reading and writing may go on at the same time, each from one task, as with every ByteStream. Records are many and
small, so they are taken apart into one buffer, as many as have come."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import cast

from cloche.channel.base import ByteStream

#: of encrypted bytes in one read; about sixteen records
READ_BYTES = 256 << 10
#: the largest record that there is, about
RECORD_BYTES = 17 << 10
HANDSHAKE_SECONDS = 10.0
#: records are taken apart here, by one stream after the other: nothing waits between the first and the last of a read
_SCRATCH = bytearray(READ_BYTES)
#: what is encrypted before it is sent, so that a large write does not stand in memory twice
_WRITE_BYTES = 256 << 10


class TlsStream:
    """The bytes inside. An end that comes without TLS saying so is a ConnectionError: it may be a forged one."""

    def __init__(self, stream: ByteStream, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        """A client's end with `server_hostname`, a server's without."""
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self._sending = asyncio.Lock()
        self._closed = self._finished = False

    async def handshake(self, first: bytes = b"") -> None:
        """`first`: what the other end has sent already. Raises ssl.SSLError (the alert has been sent), ConnectionError
        or TimeoutError."""
        self._incoming.write(first)
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            while not await self._shake():
                await self._receive(RECORD_BYTES)

    async def _shake(self) -> bool:
        """Whether that was all."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            with contextlib.suppress(ConnectionError):
                await self._flush()
        return True

    async def read(self, max_bytes: int) -> bytes:
        while True:
            data = self._decrypt(max_bytes)
            if self._outgoing.pending and not self._sending.locked():
                # a key update wants its answer; whoever is sending now takes it along
                await self._flush()
            if data is not None:
                return data
            await self._receive(max_bytes)

    async def _receive(self, max_bytes: int) -> None:
        data = await self._stream.read(min(READ_BYTES, max(RECORD_BYTES, max_bytes)))
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _decrypt(self, max_bytes: int) -> bytes | None:
        """None: a whole record has not come yet. Raises ConnectionError."""
        filled, max_bytes = 0, min(max_bytes, READ_BYTES)
        with memoryview(_SCRATCH) as view:
            try:
                while filled < max_bytes:
                    # with a buffer it gives the number of bytes, which its stub does not say
                    count = cast(int, self._tls.read(max_bytes - filled, cast(bytearray, view[filled:])))
                    if not count:
                        break
                    filled += count
            except ssl.SSLWantReadError:
                return bytes(view[:filled]) if filled else None
            except ssl.SSLZeroReturnError:
                pass
            except ssl.SSLError as error:
                if not filled:
                    raise ConnectionResetError(f"TLS: {error.reason or error}") from None
            return bytes(view[:filled])

    async def write(self, data: bytes) -> None:
        if self._finished:
            raise ConnectionResetError("writing after the end")
        with memoryview(data) as view:
            for start in range(0, len(view), _WRITE_BYTES):
                await self._write(view[start : start + _WRITE_BYTES])

    async def _write(self, data: memoryview) -> None:
        async with self._sending:
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                raise ConnectionResetError(f"TLS: {error.reason or error}") from None
            await self._send_pending()

    async def write_eof(self) -> None:
        if self._finished:
            return
        self._finished = True
        with contextlib.suppress(ssl.SSLError):
            # says that nothing follows; the other direction stays as it is
            self._tls.unwrap()
        await self._flush()
        await self._stream.write_eof()

    async def _flush(self) -> None:
        async with self._sending:
            await self._send_pending()

    async def _send_pending(self) -> None:
        while self._outgoing.pending:
            await self._stream.write(self._outgoing.read())

    async def close(self) -> None:
        """Says that it is the end only if `write_eof` did: a stream that is given up must not look complete."""
        if not self._closed:
            self._closed = True
            await self._stream.close()
