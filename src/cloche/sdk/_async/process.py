"""A process inside a sandbox: its output from any offset, its input, its end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from cloche.model.errors import ClocheError, GuestError, NotFoundError, TimedOutError, WrongStateError
from cloche.model.process import ProcessInfo, ProcessSpec
from cloche.sdk import frames, options, wire
from cloche.sdk._async import bridge
from cloche.sdk._async.patience import PAUSED_SECONDS, AsyncPatience, is_paused
from cloche.sdk._async.transport import AsyncReply, AsyncTransport
from cloche.sdk.collect import Cursor
from cloche.sdk.frames import Frame
from cloche.sdk.values import Exited, Output, ProcessEvent, StreamName
from cloche.sdk.wire import ConnectionLostError

WAIT_SLICE_SECONDS = 30.0
#: what an answer may take beyond the time that was asked for
SLOW_SECONDS = 60.0


class AsyncProcess:
    """A process that was started or found again. It lives on in the sandbox when this object is dropped."""

    def __init__(self, transport: AsyncTransport, sandbox_id: str, info: ProcessInfo) -> None:
        self.info = info
        """What was last heard of it."""
        self._transport = transport
        self._sandbox = f"/v1/sandboxes/{wire.segment(sandbox_id)}"
        self._path = f"{self._sandbox}/processes/{wire.segment(info.id)}"
        self._cursor = Cursor()
        self._streams: dict[StreamName, Cursor] = {"stdout": Cursor(), "stderr": Cursor()}
        self._reply: AsyncReply | None = None
        self._frames: AsyncIterator[Frame] | None = None
        #: how much of its input was accepted; None: others may have written before this object was made
        self._written: int | None = None

    @classmethod
    async def start(
        cls, transport: AsyncTransport, sandbox_id: str, spec: ProcessSpec, *, follow: bool
    ) -> AsyncProcess:
        """With `follow` the answer is the stream of its output, which `output` then reads and `release` ends."""
        path = f"/v1/sandboxes/{wire.segment(sandbox_id)}/processes"
        if not follow:
            made = await transport.ask("POST", path, json=options.body(spec))
            process = cls(transport, sandbox_id, wire.decode(made, ProcessInfo))
            process._written = 0
            return process
        reply = await transport.open("POST", path, query={"follow": True}, json=options.body(spec))
        try:
            stream = _frames(reply)
            process = cls(transport, sandbox_id, await _started(stream))
        except BaseException:
            await reply.aclose()
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

    async def output(self, *, follow: bool = True) -> AsyncIterator[ProcessEvent]:
        """Output, Gap and at last Exited, from where the last call stopped; without `follow` only what is there.

        A node that restarts is waited for and the stream goes on at its offset, and so is a sandbox that is paused
        meanwhile. Raises NotFoundError when the process was forgotten, SandboxDeadError when the sandbox was stopped or
        removed, NodeUnreachableError."""
        async for event in self._events(self._cursor, follow):
            yield event

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        """The bytes of standard output until the process ends (of a pty: all of its output)."""
        return self._bytes("stdout")

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """The bytes of standard error until the process ends."""
        return self._bytes("stderr")

    async def write_stdin(self, data: bytes | str) -> None:
        """Blocks while the process does not read. Raises WrongStateError after its end or `close_stdin`."""
        await self._write(data.encode() if isinstance(data, str) else data)

    async def close_stdin(self) -> None:
        """The process reads an end of file. Raises WrongStateError when it has exited."""
        await self._transport.ask("POST", f"{self._path}/stdin/close", json={})

    async def signal(self, signal: int | str, *, group: bool = True) -> None:
        """A number or a name like "TERM"; `group` reaches its children too. Raises WrongStateError after its end."""
        number = int(signal) if isinstance(signal, int) else signal.upper()
        await self._transport.ask("POST", f"{self._path}/signal", json={"signal": number, "group": group})

    async def kill(self) -> None:
        """End it and its group now; nothing happens when it has ended."""
        try:
            await self.signal("KILL")
        except WrongStateError:
            pass

    async def resize(self, rows: int, cols: int) -> None:
        """The size of its terminal. Raises WrongStateError when it has none."""
        await self._transport.ask("POST", f"{self._path}/resize", json={"rows": rows, "cols": cols})

    async def wait(self, timeout_seconds: float | None = None) -> ProcessInfo:
        """The receipt, when it has ended. Raises TimedOutError when it still runs then; it is left running."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        asked = False
        while True:
            left = WAIT_SLICE_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                info = await self._wait_once(min(left, WAIT_SLICE_SECONDS))
                if info.state == "exited":
                    return info
            except TimedOutError:
                pass
            except WrongStateError as error:
                if not (asked and is_paused(error)):
                    raise
                await bridge.sleep(min(left, PAUSED_SECONDS))
            asked = True
            if deadline is not None and time.monotonic() >= deadline:
                raise TimedOutError(f"process {self.id} still runs after {timeout_seconds} seconds")

    async def refresh(self) -> ProcessInfo:
        """Ask again what is known of it."""
        self.info = wire.decode(await self._transport.ask("GET", self._path), ProcessInfo)
        return self.info

    async def forget(self) -> None:
        """Kill it if it runs, and drop its output."""
        await self._transport.ask("DELETE", self._path)

    async def release(self) -> None:
        """Stop following; the process lives on."""
        reply, self._reply, self._frames = self._reply, None, None
        if reply is not None:
            await reply.aclose()

    async def feed(self, source: bridge.Chunks) -> None:
        """Everything of `source` to its standard input, then end of file; stops when nobody reads it any more."""
        try:
            async for chunk in bridge.chunks(source):
                await self._write(chunk)
            await self.close_stdin()
        except WrongStateError:
            pass

    async def _write(self, data: bytes) -> None:
        # the offset makes a repeated write harmless: what was accepted before is skipped
        written = self._written
        if written is None:
            told = await self._transport.ask("POST", f"{self._path}/stdin", content=b"")
            written = int(wire.as_dict(told).get("offset", 0))
        query = {"offset": written}
        try:
            answer = await self._transport.ask("POST", f"{self._path}/stdin", query=query, content=data)
        except ConnectionLostError:
            answer = await self._transport.ask("POST", f"{self._path}/stdin", query=query, content=data)
        self._written = int(wire.as_dict(answer).get("offset", written + len(data)))

    async def _wait_once(self, seconds: float) -> ProcessInfo:
        query = {"timeout_seconds": round(seconds, 3)}
        answer = await self._transport.ask("GET", f"{self._path}/wait", query=query, seconds=seconds + SLOW_SECONDS)
        self.info = wire.decode(answer, ProcessInfo)
        return self.info

    async def _bytes(self, name: StreamName) -> AsyncIterator[bytes]:
        async for event in self._events(self._streams[name], True):
            if isinstance(event, Output) and event.stream == name:
                yield event.data

    async def _events(self, cursor: Cursor, follow: bool) -> AsyncIterator[ProcessEvent]:
        began = self._frames is not None and cursor is self._cursor
        patience = AsyncPatience(self._transport, self._sandbox, self.id, began=began)
        while True:
            try:
                async for frame in self._open(cursor, follow):
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
            await patience.before_next_try(broken)

    async def _open(self, cursor: Cursor, follow: bool) -> AsyncIterator[Frame]:
        if self._frames is not None and cursor is self._cursor:
            reply, stream = self._reply, self._frames
            self._reply = self._frames = None
        else:
            query = {**cursor.query(), "follow": follow}
            reply = await self._transport.open("GET", f"{self._path}/output", query=query)
            stream = _frames(reply)
        try:
            async for frame in stream:
                yield frame
        finally:
            if reply is not None:
                await reply.aclose()


async def _frames(reply: AsyncReply) -> AsyncIterator[Frame]:
    decoder = frames.FrameDecoder()
    async for chunk in reply.chunks():
        for frame in decoder.feed(chunk):
            yield frame


async def _started(stream: AsyncIterator[Frame]) -> ProcessInfo:
    async for frame in stream:
        if frame.kind == frames.STARTED:
            return wire.decode(frame.payload, ProcessInfo)
        if frame.kind != frames.KEEPALIVE:
            raise GuestError(f"output that begins with a frame of kind {frame.kind}")
    raise ConnectionLostError("the node went away before the process was known to have started")
