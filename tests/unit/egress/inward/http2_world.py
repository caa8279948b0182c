"""HTTP/2 by hand: what a client says, and what it hears."""

from __future__ import annotations

from hpack import Decoder, Encoder

from cloche.egress.inward.http2_first import PREFACE

GREETING = b"\0\0\0\4\0\0\0\0\0"
NOTED = b"\0\0\0\4\1\0\0\0\0"


def frame(kind, flags=0, stream_id=0, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def block(authority="a.localhost", *more, method="GET"):
    named = [] if authority is None else [(":authority", authority)]
    return Encoder().encode([(":method", method), (":scheme", "http"), *named, (":path", "/"), *more])


def headers(data, flags=5, stream_id=1):
    return frame(1, flags, stream_id, data)


#: what clients say first: settings, and a window for the connection
HELLO = PREFACE + frame(4, 0, 0, b"\0\3\0\0\0\x64") + frame(8, 0, 0, b"\0\1\0\0")


def asking(authority="a.localhost", *more, method="GET"):
    return HELLO + headers(block(authority, *more, method=method))


async def next_frame(reader):
    """(kind, flags, stream id, payload)"""
    head = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
    return head[3], head[4], int.from_bytes(head[5:], "big"), payload


async def page(reader):
    """(status, headers, body) of an answer that ends the connection."""
    frames = []
    while not frames or frames[-1][0] != 7:
        frames.append(await next_frame(reader))
    assert await reader.read() == b""
    (head,) = (dict(Decoder().decode(payload)) for kind, _, _, payload in frames if kind == 1)
    return int(head[":status"]), head, b"".join(payload for kind, _, _, payload in frames if kind == 0)
