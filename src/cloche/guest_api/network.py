"""httpcore's network, made of a channel: what would be a TCP connection is a stream that the channel opens."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

from cloche.channel.base import ByteStream, Channel


class ChannelBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The address means nothing: a channel leads to one guest."""
        try:
            async with asyncio.timeout(timeout):
                return ChannelStream(await self._channel.open())
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        return await self.connect_tcp(path, 0, timeout)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ChannelStream(httpcore.AsyncNetworkStream):
    """The end of a stream is an error here: an HTTP answer of this wire always says where it ends.

    The first write after a read is a request's head; it waits for what follows, so that a small request is one system
    call and wakes the guest once.
    """

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._head: bytes | None = None
        self._begun = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._begun = False
        if self._head is not None:
            # A guest that closes early may have said why: the answer is read even when nothing can be sent.
            with contextlib.suppress(httpcore.WriteError):
                await self._send(b"", timeout)
        try:
            async with asyncio.timeout(timeout):
                data = await self.stream.read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error
        if not data:
            raise httpcore.ReadError("the guest closed the stream")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not self._begun:
            self._begun, self._head = True, buffer
        elif buffer:
            await self._send(buffer, timeout)

    async def _send(self, buffer: bytes, timeout: float | None) -> None:
        data, self._head = (self._head or b"") + buffer, None
        try:
            async with asyncio.timeout(timeout):
                await self.stream.write(data)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        await self.stream.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise NotImplementedError("the guest's wire has no TLS: the channel is private already")

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            readable = getattr(self.stream, "readable", None)
            return bool(readable and readable())
        return self.stream if info == "byte_stream" else None


class UpgradedStream:
    """A ByteStream after `101`: first what came with the answer's head, then the raw stream."""

    def __init__(self, stream: ByteStream, leading: bytes, release: httpcore.Response) -> None:
        self._stream = stream
        self._leading = leading
        self._release = release

    async def read(self, max_bytes: int) -> bytes:
        if self._leading:
            data, self._leading = self._leading[:max_bytes], self._leading[max_bytes:]
            return data
        return await self._stream.read(max_bytes)

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def write_eof(self) -> None:
        await self._stream.write_eof()

    async def close(self) -> None:
        await self._stream.close()
        await self._release.aclose()
