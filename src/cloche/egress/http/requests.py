"""HTTP/1 as the door sees it pass: requests of a client one by one, and the response to each. Without I/O.

Feed what a socket gives, and ask `next()` until it gives None. Heads are read by `head_parsing.py`, bodies by
`framing.py`; here is only the order of things."""

from __future__ import annotations

from typing import Literal

from cloche.egress.http.framing import BadMessageError, BodyReader, BodyWriter, Framing, Received, reader_of
from cloche.egress.http.head_parsing import MAX_HEAD_BYTES, begins_request, parse_request, parse_response
from cloche.egress.http.heads import Headers, RequestHead, ResponseHead

__all__ = [
    "END",
    "MAX_HEAD_BYTES",
    "BadMessageError",
    "BodyWriter",
    "End",
    "Framing",
    "Headers",
    "RequestHead",
    "RequestReader",
    "ResponseHead",
    "ResponseReader",
    "begins_request",
]

#: 1xx before the response itself
MAX_INFORMATIONAL = 32


class End:
    """The message is complete."""


END = End()


class RequestReader:
    """What one client sends. Loop: `next()` until it gives None, then `feed` what the socket gives.

    A message is RequestHead, any number of bytes (pieces of the body, never empty), End. After the End of a CONNECT or
    of a request with `upgrade`, nothing more comes until `resume()` (it was refused: the next request follows) or
    `take_rest()` (raw bytes from here)."""

    def __init__(self) -> None:
        self._received = Received()
        self._head = _HeadSearch()
        self._state: Literal["head", "body", "held"] = "head"
        self._body: BodyReader = reader_of(Framing("none"))
        self._holds = False
        self._error: BadMessageError | None = None

    def feed(self, data: bytes) -> None:
        """b"" for the end of what the client sends. Call `next` until None before more is fed, or it piles up."""
        self._received.feed(data)

    def next(self) -> RequestHead | bytes | End | None:
        """None: more is needed, or the client has ended between two requests (`ended`). Raises BadMessageError, from
        then on for ever; also when the client ends in the middle of a message."""
        if self._error is not None:
            raise self._error
        try:
            return self._next()
        except BadMessageError as error:
            self._error = error
            raise

    @property
    def ended(self) -> bool:
        """The client has finished sending, and every request that it sent was given out."""
        return self._received.ended and not len(self._received) and self._state != "body"

    @property
    def waiting(self) -> int:
        """Bytes that were fed and not given out."""
        return len(self._received)

    @property
    def idle(self) -> bool:
        """Between two requests, nothing of the next one is there."""
        return self._state == "head" and not len(self._received)

    def resume(self) -> None:
        """The tunnel or upgrade did not happen: what follows is another request."""
        if self._state == "held":
            self._state = "head"

    def take_rest(self) -> bytes:
        """What was fed and not given out; the reader is of no use afterwards."""
        return self._received.take(len(self._received))

    def _next(self) -> RequestHead | bytes | End | None:
        if self._state == "head":
            return self._next_head()
        return self._next_piece() if self._state == "body" else None

    def _next_head(self) -> RequestHead | None:
        head = self._head.take(self._received)
        if head is None:
            return None
        request = parse_request(head)
        self._state, self._body = "body", reader_of(request.framing)
        self._holds = request.framing.kind == "tunnel" or request.upgrade is not None
        return request

    def _next_piece(self) -> bytes | End | None:
        piece = self._body.next(self._received)
        if piece != b"":
            return piece
        self._state = "held" if self._holds else "head"
        return END


class ResponseReader:
    """The response to `request`: ResponseHead (several when 1xx come first; the last is >= 200, or 101), bytes …, End.
    At a 101 End follows at once and `take_rest` gives what came behind it."""

    def __init__(self, request: RequestHead) -> None:
        self._request = request
        self._received = Received()
        self._head = _HeadSearch()
        self._response: ResponseHead | None = None
        self._body: BodyReader | None = None
        self._informational = 0
        self._done = False

    def feed(self, data: bytes) -> None:
        """b"" when the upstream has ended."""
        self._received.feed(data)

    def next(self) -> ResponseHead | bytes | End | None:
        """Raises BadMessageError (502), also when the upstream ends too early. After End always None."""
        if self._done:
            return None
        if self._body is None:
            return self._next_head()
        try:
            piece = self._body.next(self._received)
        except BadMessageError as error:
            raise BadMessageError(str(error), 502) from error
        self._done = piece == b""
        return END if self._done else piece

    @property
    def begun(self) -> bool:
        """Something of it has come: another attempt of the same request would not be the first."""
        return self._response is not None or bool(self._informational) or len(self._received) > 0

    @property
    def reusable(self) -> bool:
        """After End: the upstream connection may carry another request. Never when bytes came that nobody asked for."""
        kept = self._done and self._response is not None and self._response.keep_alive
        return kept and not len(self._received) and not self._received.ended

    def take_rest(self) -> bytes:
        """What came behind the head of a 101."""
        return self._received.take(len(self._received))

    def _next_head(self) -> ResponseHead | None:
        try:
            head = self._head.take(self._received)
        except BadMessageError as error:
            raise BadMessageError(str(error), 502) from error
        if head is None:
            if self._received.ended:
                raise BadMessageError("the upstream closed the connection without an answer", 502)
            return None
        response = parse_response(head, self._request)
        if response.is_informational:
            self._count_informational()
        else:
            self._response, self._body = response, reader_of(response.framing)
        return response

    def _count_informational(self) -> None:
        self._informational += 1
        if self._informational > MAX_INFORMATIONAL:
            raise BadMessageError("too many informational answers", 502)


class _HeadSearch:
    """Finds the empty line; looks at no byte twice."""

    def __init__(self) -> None:
        self._seen = 0

    def take(self, received: Received) -> bytes | None:
        """A head with its empty line. Raises BadMessageError as soon as there can be none."""
        start = max(self._seen - 3, 0)
        end = received.find(b"\r\n\r\n", start, MAX_HEAD_BYTES)
        if end >= 0:
            self._seen = 0
            return received.take(end + 4)
        _check_begun(received, start)
        self._seen = len(received)
        return None


def _check_begun(received: Received, start: int) -> None:
    """Who ends lines with a bare LF, or has finished, would wait for ever."""
    if len(received) >= MAX_HEAD_BYTES:
        raise BadMessageError(f"a head of more than {MAX_HEAD_BYTES} bytes", 431)
    if received.has_bare_newline(start) or received.starts(b"\r"):
        raise BadMessageError("a head whose lines do not end with CR LF")
    if received.ended and len(received):
        raise BadMessageError("the head ended too early")
