"""Any bytes as HTTP: requests that h11 sees in the same way and that stay what they are when they are written anew, or
BadMessageError; responses likewise."""

from __future__ import annotations

import sys

import h11

from cloche.egress.http.requests import BadMessageError, BodyWriter, End, RequestHead, RequestReader, ResponseReader

_HEAD = b"POST /p HTTP/1.1\r\nHost: a.example\r\n"
SEEDS = [
    b"GET /a?b HTTP/1.1\r\nHost: a.example\r\nX: y\r\n\r\n",
    b"GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
    b"CONNECT a.example:443 HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    _HEAD + b"Content-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: b\r\n\r\n",
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: t\r\n\r\n",
    _HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
]


def _first(data: bytes, size: int) -> tuple[RequestHead, bytes] | None:
    """The first complete request, when the bytes come so many at a time."""
    reader, head, body = RequestReader(), None, b""
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
        while (event := reader.next()) is not None:
            if isinstance(event, End):
                assert head is not None
                return head, body
            if isinstance(event, RequestHead):
                head = event
            else:
                body += event
    return None


def _by_h11(data: bytes) -> tuple[str, bytes]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 17)
    connection.receive_data(data)
    head, body = connection.next_event(), b""
    assert isinstance(head, h11.Request)
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return head.method.decode(), body


def _request(data: bytes) -> None:
    try:
        found = _first(data, max(len(data), 1))
    except BadMessageError:
        return
    if found is None:
        return
    head, body = found
    assert _first(data, 7) == found
    # h11 wants a Host header of a CONNECT, too, which some clients leave out
    said = data.lstrip(b"\r\n").partition(b"\r\n\r\n")[0]
    if head.method != "CONNECT" or b"\nhost:" in said.lower():
        assert _by_h11(data) == (head.method, body)
    if head.method != "CONNECT":
        writer = BodyWriter(head.framing)
        again = _first(head.upstream(authority="a.example") + writer.piece(body) + writer.end(), 11)
        assert again is not None
        assert (again[0].method, again[0].target, again[1]) == (head.method, head.target, body)


_ASKED = RequestReader()
_ASKED.feed(SEEDS[4])
_REQUEST = _ASKED.next()


def _response(data: bytes) -> None:
    assert isinstance(_REQUEST, RequestHead)
    reader = ResponseReader(_REQUEST)
    try:
        for piece in (data, b""):
            if piece or not data:
                reader.feed(piece)
            while reader.next() is not None:
                pass
    except BadMessageError as error:
        assert error.status == 502


def fuzz(data: bytes) -> None:
    _request(data)
    _response(data)


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
