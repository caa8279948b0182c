"""Whole messages through the readers of HTTP/1, and the same bytes through two well-kept parsers."""

from __future__ import annotations

import h11
import httptools

from cloche.egress.http.requests import End, RequestHead, RequestReader, ResponseHead, ResponseReader


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def requests_in(data: bytes, size: int = 1 << 20, *, end: bool = False) -> list[tuple[RequestHead, bytes]]:
    """Complete requests. Raises BadMessageError."""
    reader, found, body = RequestReader(), [], b""
    for piece in [*pieces_of(data, size), *([b""] if end else [])]:
        reader.feed(piece)
        while (event := reader.next()) is not None:
            if isinstance(event, RequestHead):
                head, body = event, b""
            elif isinstance(event, End):
                found.append((head, body))
                reader.resume()
            else:
                assert event
                body += event
    return found


def response_in(
    data: bytes, request: RequestHead, size: int = 1 << 20, *, end: bool = False
) -> tuple[list[ResponseHead], bytes | None, ResponseReader]:
    """(heads, body or None when it is not complete, reader). Raises BadMessageError."""
    reader, heads, body, complete = ResponseReader(request), [], b"", False
    for piece in [*pieces_of(data, size), *([b""] if end else [])]:
        reader.feed(piece)
        while (event := reader.next()) is not None:
            if isinstance(event, ResponseHead):
                heads.append(event)
            elif isinstance(event, End):
                complete = True
            else:
                body += event
    return heads, body if complete else None, reader


def request(method: str = "GET", *headers: bytes, version: bytes = b"1.1") -> RequestHead:
    lines = b"".join(header + b"\r\n" for header in headers)
    return requests_in(b"%s / HTTP/%s\r\nHost: a.example\r\n%s\r\n" % (method.encode(), version, lines))[0][0]


def seen_by_h11(data: bytes) -> tuple[str, str, bytes, bytes]:
    """(method, target, body, what is behind it) of the first request. Raises h11.RemoteProtocolError."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 17)
    connection.receive_data(data)
    head, body = connection.next_event(), b""
    assert isinstance(head, h11.Request), head
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    return head.method.decode(), head.target.decode(), body, connection.trailing_data[0]


class _Seen:
    def __init__(self) -> None:
        self.target, self.body, self.count = b"", b"", 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.count += 1


def seen_by_httptools(data: bytes) -> tuple[str, str, bytes] | None:
    """(method, target, body) when it is one request; None for a method that it does not know. Raises
    httptools.HttpParserError."""
    seen = _Seen()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        if "Invalid method" in str(error) or "Expected SOURCE" in str(error) or "Expected HTTP/" in str(error):
            return None
        raise
    assert seen.count == 1
    return parser.get_method().decode(), seen.target.decode(), seen.body
