"""One HTTP/1.1 request from a stream, for servers that stand in for a VMM."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import msgspec


async def request(reader: asyncio.StreamReader) -> tuple[h11.Request, bytes]:
    """Raises ConnectionResetError when it does not come whole."""
    connection, head, content = h11.Connection(h11.SERVER), None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(4096))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return head, content
        else:
            raise ConnectionResetError("gone")


def answer(status: int, reason: str, body: Any = None) -> bytes:
    """A 204 has no length, as those who write it do not."""
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: keep-alive\r\n".encode()
    if status == 204:
        return head + b"\r\n"
    content = b"" if body is None else msgspec.json.encode(body)
    return head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content) + content
