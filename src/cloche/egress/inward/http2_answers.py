"""What the door itself says in HTTP/2: a greeting, a page, a farewell. Without I/O."""

from __future__ import annotations

from cloche.egress.inward.http2_first import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD_BYTES,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    BadHttp2Error,
    FirstRequest,
)
from cloche.egress.inward.ingress_pages import Page

_NO_ERROR = 0


def greeting() -> bytes:
    """Settings that change nothing: for clients that ask for nothing before they have heard from a server."""
    return _frame(SETTINGS, 0, 0)


def answer(page: Page, asked: FirstRequest, *, greeted: bool) -> bytes:
    """The page to this one request, and the end of the connection."""
    from hpack import Encoder

    body = b"" if asked.method == b"HEAD" else page.body
    head = Encoder().encode(
        [(b":status", b"%d" % page.status), *((name.lower(), value) for name, value in page.headers)]
    )
    frames = [
        _settings(greeted),
        _frame(SETTINGS, ACK, 0),
        _frame(HEADERS, END_HEADERS, asked.stream_id, head),
        _frame(DATA, END_STREAM, asked.stream_id, body),
        # what else it may be sending is of no interest
        _frame(RST_STREAM, 0, asked.stream_id, _NO_ERROR.to_bytes(4, "big")),
        _goaway(asked.stream_id, _NO_ERROR, b""),
    ]
    return b"".join(frames)


def farewell(error: BadHttp2Error, *, greeted: bool) -> bytes:
    """To who speaks no HTTP/2 that is understood here, with words that curl -v shows."""
    return _settings(greeted) + _goaway(0, error.code, str(error).encode("ascii", "replace"))


def _settings(greeted: bool) -> bytes:
    return b"" if greeted else greeting()


def _goaway(last: int, code: int, words: bytes) -> bytes:
    return _frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + words)


def _frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big")
    assert len(head) == FRAME_HEAD_BYTES
    return head + payload
