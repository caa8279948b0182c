"""The node's stream of an execution's events: bytes in, events out; and what one execution comes to. No I/O."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from cloche.model.code import (
    MAX_EVENT_BYTES,
    Accepted,
    CodeEnded,
    CodeError,
    CodeEvent,
    CodeGap,
    CodeOutput,
    CodeResult,
    Keepalive,
    Started,
)
from cloche.model.errors import GuestError, from_json
from cloche.sdk.code import CodeFailure, Execution, Result, mended
from cloche.sdk.values import StreamName

#: what a result counts in addition to its data
RESULT_BYTES = 1024

_DECODER: msgspec.json.Decoder[CodeEvent] = msgspec.json.Decoder(CodeEvent)
_KNOWN = frozenset(kind.__struct_config__.tag for kind in get_args(CodeEvent))


class EventDecoder:
    """Never holds more than one line that is not complete. Events that a newer node says and this client does not
    know are passed over. Raises GuestError for what no event can be, and the error that the node says in place of
    events that it refuses."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[CodeEvent]:
        """The events that `data` completes; take all of them before feeding more."""
        first, *others = data.split(b"\n")
        self._buffer += first
        if others:
            lines = [bytes(self._buffer), *others[:-1]]
            self._buffer = bytearray(others[-1])
            for line in lines:
                event = _event(line)
                if event is not None:
                    yield event
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise GuestError(f"an event of more than {MAX_EVENT_BYTES} bytes")


class TextDecoder:
    """Joins the bytes of characters that arrive in pieces; what is not UTF-8 becomes U+FFFD."""

    def __init__(self) -> None:
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in get_args(StreamName)}

    def text(self, event: CodeOutput) -> str:
        """What can be shown of this stream now."""
        return self._decoders[event.stream].decode(output_bytes(event))

    def rest(self, stream: StreamName) -> str:
        """What is left at the end."""
        return self._decoders[stream].decode(b"", final=True)


class CodeCollector:
    """Keeps the first `limit` bytes of each stream and of all results, and says whether there was more."""

    def __init__(self, limit: int) -> None:
        self._room = {"stdout": limit, "stderr": limit, "results": limit}
        self._kept = {"stdout": bytearray(), "stderr": bytearray()}
        self._results: list[Result] = []
        self._found: dict[str, Any] = {"id": "", "context_id": "", "status": "context_ended", "state_kept": False}
        self._truncated = False
        self._lost = 0
        self.ended = False

    def take(self, event: CodeEvent) -> Result | None:
        """The result, when the event is one and was kept."""
        if isinstance(event, CodeOutput):
            data = output_bytes(event)
            self._kept[event.stream] += data[: self._granted(event.stream, len(data))]
        elif isinstance(event, CodeResult):
            return self._result(event)
        elif isinstance(event, CodeGap):
            self._lost += event.lost_events
        else:
            self._found |= _facts(event)
            self.ended = self.ended or isinstance(event, CodeEnded)
        return None

    def execution(self) -> Execution:
        """What was taken; `ended` says whether that is all."""
        return Execution(
            **self._found,
            stdout=self._kept["stdout"].decode("utf-8", "replace"),
            stderr=self._kept["stderr"].decode("utf-8", "replace"),
            results=self._results,
            truncated=self._truncated,
            lost_events=self._lost,
        )

    def _result(self, event: CodeResult) -> Result | None:
        # an empty result takes memory too
        size = RESULT_BYTES + _size(event.metadata) + sum(len(key) + _size(value) for key, value in event.data.items())
        if self._granted("results", size) < size:
            return None
        made = Result(kind=event.kind, data=event.data, metadata=event.metadata, left_out=tuple(event.left_out))
        self._results.append(made)
        return made

    def _granted(self, what: str, size: int) -> int:
        granted = min(size, self._room[what])
        self._room[what] -= granted
        self._truncated = self._truncated or granted < size
        return granted


def output_bytes(event: CodeOutput) -> bytes:
    """What the code wrote."""
    return event.text.encode("utf-8", "surrogateescape")


def _facts(event: CodeEvent) -> dict[str, Any]:
    if isinstance(event, Accepted):
        return {"id": event.execution_id, "context_id": event.context_id}
    if isinstance(event, Started):
        return {"number": event.number}
    if isinstance(event, CodeError):
        return {"error": CodeFailure(mended(event.name), mended(event.message), mended(event.traceback))}
    if isinstance(event, CodeEnded):
        return {name: getattr(event, name) for name in ("status", "state_kept", "wall_seconds", "limit_hit")}
    assert isinstance(event, Keepalive)
    return {}


def _event(line: bytes) -> CodeEvent | None:
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _unusual(line)


def _unusual(line: bytes) -> CodeEvent | None:
    """Again with the standard library, which reads the lone surrogates that stand for bytes outside UTF-8. Raises what
    the node says went wrong."""
    try:
        value = json.loads(line)
        if isinstance(value, dict) and value.keys() == {"error"}:
            raise from_json(value)
        if isinstance(value, dict) and value.get("type") not in _KNOWN:
            return None
        found: CodeEvent = msgspec.convert(value, CodeEvent)
    except (ValueError, RecursionError) as error:
        raise GuestError(f"not an event of an execution: {error}") from error
    return found


def _size(value: object) -> int:
    return len(value) if isinstance(value, str) else len(json.dumps(value))
