"""What follows a process's output: where a reader stands (Cursor), and what one exec keeps of it (Collector)."""

from __future__ import annotations

from cloche.model.process import ProcessInfo, Usage
from cloche.sdk import frames, wire
from cloche.sdk.frames import Frame
from cloche.sdk.values import ExecResult, Exited, Gap, Output, ProcessEvent, StreamName

_NAMES: dict[int, StreamName] = {frames.STDOUT: "stdout", frames.STDERR: "stderr"}


class Cursor:
    """The offsets up to which one reader has seen each stream, so that a reconnection neither loses nor doubles."""

    def __init__(self, stdout: int = 0, stderr: int = 0) -> None:
        self.offsets: dict[StreamName, int] = {"stdout": stdout, "stderr": stderr}

    def query(self) -> dict[str, object]:
        """The query parameters that continue from here."""
        return {f"{name}_offset": offset for name, offset in self.offsets.items()}

    def events(self, frame: Frame) -> list[ProcessEvent]:
        """What a frame means to this reader. Raises GuestError."""
        if frame.kind in _NAMES:
            return self._output(_NAMES[frame.kind], frame)
        if frame.kind == frames.GAP:
            return self._gap(_NAMES[frames.gap(frame.payload)[0]], frame.offset, frames.gap(frame.payload)[1])
        if frame.kind == frames.EXITED:
            return [Exited(wire.decode(frame.payload, ProcessInfo))]
        return []

    def _output(self, name: StreamName, frame: Frame) -> list[ProcessEvent]:
        seen = self.offsets[name]
        found: list[ProcessEvent] = []
        if seen < 0:
            seen = frame.offset
        if frame.offset > seen:
            found += self._gap(name, frame.offset, frame.offset - seen)
            seen = frame.offset
        fresh = frame.payload[seen - frame.offset :]
        self.offsets[name] = seen + len(fresh)
        return [*found, Output(name, seen, fresh)] if fresh else found

    def _gap(self, name: StreamName, offset: int, lost: int) -> list[ProcessEvent]:
        self.offsets[name] = max(offset, self.offsets[name])
        return [Gap(name, offset, lost)]


class Collector:
    """Keeps the first `limit` bytes of each stream and says whether there was more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[StreamName, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._gaps: list[Gap] = []
        self._truncated = False
        self._info: ProcessInfo | None = None

    def take(self, event: ProcessEvent) -> None:
        if isinstance(event, Output):
            kept = self._kept[event.stream]
            room = self._limit - len(kept)
            kept += event.data[:room]
            self._truncated = self._truncated or len(event.data) > room
        elif isinstance(event, Gap):
            self._gaps.append(event)
        else:
            self._info = event.info

    def result(self, info: ProcessInfo) -> ExecResult:
        """`info` is what was known before the end; the receipt that came with the output replaces it."""
        last = self._info or info
        return ExecResult(
            process_id=last.id,
            exit_code=255 if last.exit_code is None else last.exit_code,
            stdout_bytes=bytes(self._kept["stdout"]),
            stderr_bytes=bytes(self._kept["stderr"]),
            usage=last.usage or Usage(),
            limit_hit=last.limit_hit,
            signal=last.signal,
            error=last.error,
            truncated=self._truncated,
            gaps=tuple(self._gaps),
        )
