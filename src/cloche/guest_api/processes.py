"""Process calls of the guest's wire."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec

from cloche.guest_api import bounds, text
from cloche.guest_api.frames import EXITED, STARTED, Frame, FrameDecoder
from cloche.guest_api.transport import (
    MAX_JSON_BYTES,
    Body,
    Transport,
    body_headers,
    chunks_of,
    read_bounded,
    segment,
    target,
)
from cloche.model.errors import NotFoundError
from cloche.model.process import ProcessInfo, ProcessSpec

#: beyond what the guest itself was asked to wait
WAIT_SLACK_SECONDS = 30.0
MAX_LISTED = 65536


class _Listing(msgspec.Struct):
    processes: list[ProcessInfo]


class _Accepted(msgspec.Struct):
    offset: int


class ProcessCalls(Transport):
    async def start_process(self, spec: ProcessSpec) -> ProcessInfo:
        """Start it. A command that cannot start is an exited process (126, 127), never an error."""
        return bounds.process(await self._ask(ProcessInfo, "POST", b"/v1/processes", spec))

    @contextlib.asynccontextmanager
    async def follow_process(self, spec: ProcessSpec) -> AsyncIterator[AsyncIterator[Frame]]:
        """Start it and follow: `async with guest.follow_process(spec) as frames`. Leaving ends only the stream."""
        content = text.encode(spec)
        headers = [(b"Content-Type", b"application/json"), *body_headers(content)]
        async with self._stream("POST", b"/v1/processes?follow=1", headers, content) as response:
            yield _frames(chunks_of(response), FrameDecoder(stdout_offset=0, stderr_offset=0), follow=True)

    async def list_processes(self) -> list[ProcessInfo]:
        """Every process that the guest remembers, the newest last."""
        answer = await self._ask(_Listing, "GET", b"/v1/processes")
        bounds.require(len(answer.processes) <= MAX_LISTED, "number of processes")
        return [bounds.process(info) for info in answer.processes]

    async def process(self, process_id: str) -> ProcessInfo:
        """Raises NotFoundError."""
        return bounds.process(await self._ask(ProcessInfo, "GET", _path(process_id)), process_id)

    async def wait_process(self, process_id: str, timeout_seconds: float | None = None) -> ProcessInfo:
        """The process when it has exited, or still running when `timeout_seconds` are over (None: the guest's 30)."""
        asked = target(_path(process_id, "/wait").decode(), {"timeout_seconds": timeout_seconds})
        most = (30.0 if timeout_seconds is None else timeout_seconds) + WAIT_SLACK_SECONDS
        info = await self._ask_long(asked, most)
        return bounds.process(info, process_id)

    async def _ask_long(self, asked: bytes, most_seconds: float) -> ProcessInfo:
        async with self._stream("GET", asked, silence_seconds=most_seconds) as response:
            return text.decode(await read_bounded(response, MAX_JSON_BYTES), ProcessInfo)

    @contextlib.asynccontextmanager
    async def output(
        self, process_id: str, stdout_offset: int = 0, stderr_offset: int = 0, follow: bool = False
    ) -> AsyncIterator[AsyncIterator[Frame]]:
        """Frames from these offsets on; negative ones count from the end. Without `follow` they end at what is there
        now. Raises NotFoundError."""
        query = {"stdout_offset": stdout_offset, "stderr_offset": stderr_offset, "follow": follow}
        decoder = FrameDecoder(stdout_offset=stdout_offset, stderr_offset=stderr_offset)
        async with self._stream("GET", target(_path(process_id, "/output").decode(), query)) as response:
            yield _frames(chunks_of(response), decoder, follow=follow)

    async def write_stdin(self, process_id: str, data: Body, offset: int | None = None) -> int:
        """How many bytes the process has been given in all. With `offset`, what was accepted before is skipped.
        Raises WrongStateError after exit or close, InvalidError for an offset beyond the total."""
        asked = target(_path(process_id, "/stdin").decode(), {"offset": offset})
        async with self._stdin(asked, data) as answer:
            bounds.require(0 <= answer.offset <= bounds.MAX_INTEGER, "stdin offset")
            return answer.offset

    @contextlib.asynccontextmanager
    async def _stdin(self, asked: bytes, data: Body) -> AsyncIterator[_Accepted]:
        # A process may leave its stdin unread for as long as it likes: no timeout.
        async with self._stream("POST", asked, body_headers(data), data, silence_seconds=None) as response:
            yield text.decode(await read_bounded(response, 4096), _Accepted)

    async def close_stdin(self, process_id: str) -> None:
        await self._call("POST", _path(process_id, "/stdin/close"))

    async def signal_process(self, process_id: str, signal: int | str, group: bool = True) -> None:
        """`signal`: a number, "SIGTERM" or "TERM". Raises WrongStateError when it has exited."""
        await self._call("POST", _path(process_id, "/signal"), {"signal": signal, "group": group})

    async def resize(self, process_id: str, rows: int, cols: int) -> None:
        """Raises WrongStateError when the process has no PTY."""
        await self._call("POST", _path(process_id, "/resize"), {"rows": rows, "cols": cols})

    async def forget_process(self, process_id: str) -> None:
        """Kill what runs of its session and drop its output."""
        await self._call("DELETE", _path(process_id))


def _path(process_id: str, rest: str = "") -> bytes:
    return f"/v1/processes/{segment(process_id)}{rest}".encode("ascii")


async def _frames(chunks: AsyncIterator[bytes], decoder: FrameDecoder, *, follow: bool) -> AsyncIterator[Frame]:
    async for chunk in chunks:
        for frame in decoder.feed(chunk):
            if frame.kind in (STARTED, EXITED):
                bounds.process(frame.process())
            yield frame
    decoder.finish()
    if follow and not decoder.exited:
        raise NotFoundError("the process was forgotten while it was followed")
