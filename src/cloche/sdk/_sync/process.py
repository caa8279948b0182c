# Made from ../_async/process.py by scripts/generate_sync.py: edit there.
# ruff: noqa: C416, I001, RUF100, UP028
"""A process inside a sandbox: its output from any offset, its input, its end."""

from __future__ import annotations

import time
from collections.abc import Iterator

from cloche.model.errors import ClocheError, GuestError, NotFoundError, TimedOutError, WrongStateError
from cloche.model.process import ProcessInfo, ProcessSpec
from cloche.sdk import frames, options, wire
from cloche.sdk._sync import bridge
from cloche.sdk._sync.patience import PAUSED_SECONDS, Patience, is_paused
from cloche.sdk._sync.transport import Reply, Transport
from cloche.sdk.collect import Cursor
from cloche.sdk.frames import Frame
from cloche.sdk.values import Exited, Output, ProcessEvent, StreamName
from cloche.sdk.wire import ConnectionLostError

WAIT_SLICE_SECONDS = 30.0
#: what an answer may take beyond the time that was asked for
SLOW_SECONDS = 60.0


class Process:
    """A process that was started or found again. It lives on in the sandbox when this object is dropped."""

    def __init__(self, transport: Transport, sandbox_id: str, info: ProcessInfo) -> None:
        self.info = info
        """What was last heard of it."""
        self._transport = transport
        self._sandbox = f"/v1/sandboxes/{wire.segment(sandbox_id)}"
        self._path = f"{self._sandbox}/processes/{wire.segment(info.id)}"
        self._cursor = Cursor()
        self._streams: dict[StreamName, Cursor] = {"stdout": Cursor(), "stderr": Cursor()}
        self._reply: Reply | None = None
        self._frames: Iterator[Frame] | None = None
        #: how much of its input was accepted; None: others may have written before this object was made
        self._written: int | None = None

    @classmethod
    def start(
        cls, transport: Transport, sandbox_id: str, spec: ProcessSpec, *, follow: bool
    ) -> Process:
        """With `follow` the answer is the stream of its output, which `output` then reads and `release` ends."""
        path = f"/v1/sandboxes/{wire.segment(sandbox_id)}/processes"
        if not follow:
            made = transport.ask("POST", path, json=options.body(spec))
            process = cls(transport, sandbox_id, wire.decode(made, ProcessInfo))
            process._written = 0
            return process
        reply = transport.open("POST", path, query={"follow": True}, json=options.body(spec))
        try:
            stream = _frames(reply)
            process = cls(transport, sandbox_id, _started(stream))
        except BaseException:
            reply.close()
            raise
        process._reply, process._frames, process._written = reply, stream, 0
        return process

    @property
    def id(self) -> str:
        """What `Sandbox.process` finds it by."""
        return self.info.id

    @property
    def pid(self) -> int:
        """Its number inside the sandbox."""
        return self.info.pid

    def seek(self, *, stdout_offset: int = 0, stderr_offset: int = 0) -> None:
        """Where `output` goes on: bytes from the beginning of each stream, negative from its end."""
        self._cursor = Cursor(stdout_offset, stderr_offset)

    @property
    def offsets(self) -> dict[StreamName, int]:
        """Up to where `output` has been read; give them to `seek` to go on in another program."""
        return dict(self._cursor.offsets)

    def output(self, *, follow: bool = True) -> Iterator[ProcessEvent]:
        """Output, Gap and at last Exited, from where the last call stopped; without `follow` only what is there.

        A node that restarts is waited for and the stream goes on at its offset, and so is a sandbox that is paused
        meanwhile. Raises NotFoundError when the process was forgotten, SandboxDeadError when the sandbox was stopped or
        removed, NodeUnreachableError."""
        for event in self._events(self._cursor, follow):
            yield event

    @property
    def stdout(self) -> Iterator[bytes]:
        """The bytes of standard output until the process ends (of a pty: all of its output)."""
        return self._bytes("stdout")

    @property
    def stderr(self) -> Iterator[bytes]:
        """The bytes of standard error until the process ends."""
        return self._bytes("stderr")

    def write_stdin(self, data: bytes | str) -> None:
        """Blocks while the process does not read. Raises WrongStateError after its end or `close_stdin`."""
        self._write(data.encode() if isinstance(data, str) else data)

    def close_stdin(self) -> None:
        """The process reads an end of file. Raises WrongStateError when it has exited."""
        self._transport.ask("POST", f"{self._path}/stdin/close", json={})

    def signal(self, signal: int | str, *, group: bool = True) -> None:
        """A number or a name like "TERM"; `group` reaches its children too. Raises WrongStateError after its end."""
        number = int(signal) if isinstance(signal, int) else signal.upper()
        self._transport.ask("POST", f"{self._path}/signal", json={"signal": number, "group": group})

    def kill(self) -> None:
        """End it and its group now; nothing happens when it has ended."""
        try:
            self.signal("KILL")
        except WrongStateError:
            pass

    def resize(self, rows: int, cols: int) -> None:
        """The size of its terminal. Raises WrongStateError when it has none."""
        self._transport.ask("POST", f"{self._path}/resize", json={"rows": rows, "cols": cols})

    def wait(self, timeout_seconds: float | None = None) -> ProcessInfo:
        """The receipt, when it has ended. Raises TimedOutError when it still runs then; it is left running."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        asked = False
        while True:
            left = WAIT_SLICE_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                info = self._wait_once(min(left, WAIT_SLICE_SECONDS))
                if info.state == "exited":
                    return info
            except TimedOutError:
                pass
            except WrongStateError as error:
                if not (asked and is_paused(error)):
                    raise
                bridge.sleep(min(left, PAUSED_SECONDS))
            asked = True
            if deadline is not None and time.monotonic() >= deadline:
                raise TimedOutError(f"process {self.id} still runs after {timeout_seconds} seconds")

    def refresh(self) -> ProcessInfo:
        """Ask again what is known of it."""
        self.info = wire.decode(self._transport.ask("GET", self._path), ProcessInfo)
        return self.info

    def forget(self) -> None:
        """Kill it if it runs, and drop its output."""
        self._transport.ask("DELETE", self._path)

    def release(self) -> None:
        """Stop following; the process lives on."""
        reply, self._reply, self._frames = self._reply, None, None
        if reply is not None:
            reply.close()

    def feed(self, source: bridge.Chunks) -> None:
        """Everything of `source` to its standard input, then end of file; stops when nobody reads it any more."""
        try:
            for chunk in bridge.chunks(source):
                self._write(chunk)
            self.close_stdin()
        except WrongStateError:
            pass

    def _write(self, data: bytes) -> None:
        # the offset makes a repeated write harmless: what was accepted before is skipped
        written = self._written
        if written is None:
            told = self._transport.ask("POST", f"{self._path}/stdin", content=b"")
            written = int(wire.as_dict(told).get("offset", 0))
        query = {"offset": written}
        try:
            answer = self._transport.ask("POST", f"{self._path}/stdin", query=query, content=data)
        except ConnectionLostError:
            answer = self._transport.ask("POST", f"{self._path}/stdin", query=query, content=data)
        self._written = int(wire.as_dict(answer).get("offset", written + len(data)))

    def _wait_once(self, seconds: float) -> ProcessInfo:
        query = {"timeout_seconds": round(seconds, 3)}
        answer = self._transport.ask("GET", f"{self._path}/wait", query=query, seconds=seconds + SLOW_SECONDS)
        self.info = wire.decode(answer, ProcessInfo)
        return self.info

    def _bytes(self, name: StreamName) -> Iterator[bytes]:
        for event in self._events(self._streams[name], True):
            if isinstance(event, Output) and event.stream == name:
                yield event.data

    def _events(self, cursor: Cursor, follow: bool) -> Iterator[ProcessEvent]:
        began = self._frames is not None and cursor is self._cursor
        patience = Patience(self._transport, self._sandbox, self.id, began=began)
        while True:
            try:
                for frame in self._open(cursor, follow):
                    patience.progress()
                    for event in cursor.events(frame):
                        self.info = event.info if isinstance(event, Exited) else self.info
                        yield event
                    if frame.kind == frames.EXITED:
                        return
                if not follow:
                    return
                broken: ClocheError = ConnectionLostError(f"the output of {self.id} broke off")
            except (ConnectionLostError, TimedOutError, WrongStateError, NotFoundError) as error:
                broken = error
            patience.before_next_try(broken)

    def _open(self, cursor: Cursor, follow: bool) -> Iterator[Frame]:
        if self._frames is not None and cursor is self._cursor:
            reply, stream = self._reply, self._frames
            self._reply = self._frames = None
        else:
            query = {**cursor.query(), "follow": follow}
            reply = self._transport.open("GET", f"{self._path}/output", query=query)
            stream = _frames(reply)
        try:
            for frame in stream:
                yield frame
        finally:
            if reply is not None:
                reply.close()


def _frames(reply: Reply) -> Iterator[Frame]:
    decoder = frames.FrameDecoder()
    for chunk in reply.chunks():
        for frame in decoder.feed(chunk):
            yield frame


def _started(stream: Iterator[Frame]) -> ProcessInfo:
    for frame in stream:
        if frame.kind == frames.STARTED:
            return wire.decode(frame.payload, ProcessInfo)
        if frame.kind != frames.KEEPALIVE:
            raise GuestError(f"output that begins with a frame of kind {frame.kind}")
    raise ConnectionLostError("the node went away before the process was known to have started")
