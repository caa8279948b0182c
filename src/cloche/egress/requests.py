"""HTTP/1 as the door sees it pass: requests of a client one by one, the response to each. Without I/O."""

from __future__ import annotations

from cloche.egress.framing import BodyWriter, Framing
from cloche.egress.heads import MAX_HEAD_BYTES, BadMessageError, Headers, RequestHead, ResponseHead

__all__ = [
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
]


class End:
    """The message is complete."""


class RequestReader:
    """What one client sends. Loop: `next()` until it gives None, then `feed` what the socket gives.

    A message is RequestHead, any number of bytes (pieces of the body, never empty), End. After the End of a CONNECT or of
    a request with `upgrade`, nothing more comes until `resume()` (it was refused: the next request follows) or
    `take_rest()` (raw bytes from here)."""

    def feed(self, data: bytes) -> None:
        """b"" for the end of what the client sends. At most 256 KiB may wait; call `next` until None before more."""
        raise NotImplementedError

    def next(self) -> RequestHead | bytes | End | None:
        """None: more is needed, or the client has ended between two requests (`ended`). Raises BadMessageError, from then
        on for ever; also when the client ends in the middle of a message."""
        raise NotImplementedError

    @property
    def ended(self) -> bool:
        """The client has finished sending, and every request that it sent was given out."""
        raise NotImplementedError

    @property
    def idle(self) -> bool:
        """Between two requests, nothing of the next one is there."""
        raise NotImplementedError

    def resume(self) -> None:
        """The tunnel or upgrade did not happen: what follows is another request."""
        raise NotImplementedError

    def take_rest(self) -> bytes:
        """What was fed and not given out; the reader is of no use afterwards."""
        raise NotImplementedError


class ResponseReader:
    """The response to `request`: ResponseHead (several when 1xx come first; the last is >= 200, or 101), bytes …, End.
    At a 101 End follows at once and `take_rest` gives what came behind it."""

    def __init__(self, request: RequestHead) -> None:
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """b"" when the upstream has ended."""
        raise NotImplementedError

    def next(self) -> ResponseHead | bytes | End | None:
        """Raises BadMessageError (502), also when the upstream ends too early."""
        raise NotImplementedError

    @property
    def reusable(self) -> bool:
        """After End: the upstream connection may carry another request. Never when bytes came that nobody asked for."""
        raise NotImplementedError

    def take_rest(self) -> bytes:
        """What came behind the head of a 101."""
        raise NotImplementedError
